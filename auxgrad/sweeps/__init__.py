"""Plan and execute sweeps, in local processes or on a cluster."""
