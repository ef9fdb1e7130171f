"""HyperPod's declarative Slurm configuration, topology, node repair and job resume for any Slurm cluster.

The library holds all logic; it neither prints nor imports click.
"""

__version__ = "0.1.0"
