"""Many runs: the plan, the sweep, and what executes its jobs."""
