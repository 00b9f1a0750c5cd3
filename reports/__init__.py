"""What people and machines look at: each format renders run folders and nothing else."""
