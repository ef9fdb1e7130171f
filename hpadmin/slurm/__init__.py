"""A running Slurm: its commands, its host lists, its states."""
