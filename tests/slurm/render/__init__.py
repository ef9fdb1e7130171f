"""Slurm itself judges what is rendered."""
