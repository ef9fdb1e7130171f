"""What a bare instance runs to become a controller, login or compute node of its cluster.

`on_create.sh` finds a Python and runs this package. It reads who it is (`facts`), what the administrator wants
(`settings`) and works through the stages of its role (`stages`); a stage is made of steps (`step`), each of which
can tell what is lacking before it changes anything. So a second run finds nothing to do, a run after a failure goes
on where the failed one stopped, and ``--dry-run`` is the same code without the changes.

    python3 -m lifecycle --dry-run
"""
