"""Slurm's configuration files without losing a byte: `loads`, `dumps`, and what Slurm would understand.

>>> dumps(loads(b"ClusterName=lab # caf\\xe9\\r\\n"))
b'ClusterName=lab # caf\\xe9\\r\\n'
"""

from hpadmin.slurmconf.document import Document, Statement, dumps, loads
from hpadmin.slurmconf.view import View, view

__all__ = ["Document", "Statement", "View", "dumps", "loads", "view"]
