"""The network: which topology Slurm is told of, and where it would place a job.

`choose` decides and renders the topology of a cluster; `hpadmin.topology.placement` models Slurm's own choice
of nodes; `hpadmin.topology.graph` holds the data between all of them."""
