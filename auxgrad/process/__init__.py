"""The process and its machine: orderly termination, a quiet terminal, locks and heartbeats."""
