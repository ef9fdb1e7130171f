"""Several slurmds on one host, started so that each lives."""

from __future__ import annotations

START_ALONE = r"""
start_alone() {
    sack=/run/slurm/sack.socket
    before=$(stat -c '%i %z' $sack 2>/dev/null || true)
    "$@" || return
    tries=0
    until now=$(stat -c '%i %z' $sack 2>/dev/null) && [ "$now" != "$before" ]; do
        tries=$((tries + 1))
        if [ $tries -gt 1200 ]; then
            echo "$*: did not take over $sack" >&2
            return 1
        fi
        sleep 0.05
    done
}
"""
"""A shell function that runs its arguments, which start a slurmd, and returns when the next one may start.

With auth/slurm every slurmd of a host removes /run/slurm/sack.socket and binds its own in its place; where two do so
at once the second cannot bind and ends, after its parent has already told of success (src/plugins/auth/slurm/sack.c).
"""
