"""What a process owes its machine: an end in order, a quiet terminal, a sign of life."""
