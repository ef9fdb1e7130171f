"""Slurm's configuration files without losing a byte: `loads`, `dumps`, and back.

What Slurm would understand of them: `hpadmin.slurmconf.view`; changing them: `hpadmin.slurmconf.edit`.


>>> dumps(loads(b"ClusterName=lab # caf\\xe9\\r\\n"))
b'ClusterName=lab # caf\\xe9\\r\\n'
"""

from hpadmin.slurmconf.document import Document, Statement, dumps, loads

__all__ = ["Document", "Statement", "dumps", "loads"]
