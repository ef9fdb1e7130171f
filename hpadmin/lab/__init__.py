"""A real Slurm cluster in containers: one container an instance, on a private network.

`image` builds what the containers run, `engine` speaks to Docker, `cluster` brings a request to life.
"""
