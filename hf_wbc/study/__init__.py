"""Studies: plan and execute grids of runs, on this machine or on a cluster."""
