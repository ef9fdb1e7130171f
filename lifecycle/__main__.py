"""``python3 -m lifecycle``: make this machine a node of its cluster. Started by `on_create.sh`."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hpadmin import request
from hpadmin.errors import HpadminError, OperationFailed
from lifecycle import bundle, engine, facts, secrets, settings, stages
from lifecycle.machine import Machine
from lifecycle.retry import Clock, Retry
from lifecycle.situation import Situation, locate
from lifecycle.step import Transient

log = logging.getLogger("lifecycle")

_OF_SLURM = ("SLURM_", "SLURMD_", "SACCT", "SCONTROL_", "SINFO_", "SQUEUE_", "SBATCH_", "SRUN_")
"""Beginnings of the variables that Slurm's commands heed (scontrol(1) and others, ENVIRONMENT VARIABLES)."""

_FIND_ME = Retry(deadline=120, base=0.5, cap=10)
"""How long a missing or stale `resource_config.json` is waited for."""


def main(arguments: Sequence[str]) -> int:
    """Run the lifecycle; return the exit status: 0, or 1 with the stage and the cause as the last line."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    forget_slurm(os.environ)
    machine, clock = Machine(), Clock()
    try:
        if _vanilla(options.resource_config):
            return 0
        with _alone(machine):
            situation = find_situation(machine, clock, options.bundle, options.resource_config)
            # The kernel's host name is one of the things that change now.
            machine = replace(machine, host=situation.name)
            log.info(
                "this is %s, %s node of cluster %s",
                situation.name, situation.role.value.lower(), situation.cluster.name,
            )  # fmt: skip
            if options.dry_run:
                _tell(engine.pending(machine, situation, stages.ALL))
                return 0
            record = engine.run(machine, situation, stages.ALL, clock)
    except HpadminError as error:
        hint = f" ({error.hint})" if error.hint else ""
        log.error("on_create failed: %s%s", error, hint)
        return 1
    except OSError as error:
        log.error("on_create failed: %s: %s", error.filename or "the system", error.strerror)
        return 1
    seconds = sum(outcome.seconds for outcome in record.stages)
    log.info("on_create done: %s is ready after %.1f s", situation.name, seconds)
    return 0


def forget_slurm(environment: MutableMapping[str, str]) -> None:
    """Remove what would make Slurm's commands speak to another cluster, as somebody else, or in another form.

    Whoever runs this by hand may have a token or a job's variables in the environment.
    """
    for name in [name for name in environment if name.startswith(_OF_SLURM)]:
        del environment[name]


def find_situation(machine: Machine, clock: Clock, bundle_dir: Path, resource_config: Path) -> Situation:
    """Find out who this machine is and what is wanted of it.

    A missing, half-written or stale `resource_config.json` is waited for. Raises HpadminError.
    """
    wanted = settings.load(bundle_dir)
    start = clock.now()
    for pause in _FIND_ME.delays(clock.draw):
        try:
            inventory = facts.read(resource_config)
            me = facts.find(inventory, facts.own_addresses(machine.runner), str(resource_config))
            break
        except Transient as error:
            if clock.now() + pause - start > _FIND_ME.deadline:
                raise OperationFailed(f"stage facts failed: {error}", hint=error.hint) from error
            log.warning("%s; looking again in %.1f s", error, pause)
            clock.sleep(pause)
    asked, source = bundle.read_request(bundle_dir, resource_config)
    cluster = request.build(asked, inventory, wanted.node_names)
    node, role, group = locate(cluster, me)
    return Situation(
        node=node,
        role=role,
        group=group,
        cluster=cluster,
        settings=wanted,
        secrets=secrets.source(wanted.secrets),
        bundle=bundle_dir,
        request=source,
        inventory=resource_config,
        conf_dir="/opt/slurm/etc" if machine.is_directory("/opt/slurm/etc") else "/etc/slurm",
    )


def _vanilla(resource_config: Path) -> bool:
    """Tell whether nobody named a cluster to this machine, as HyperPod's own scripts judge it."""
    if os.environ.get(facts.RESOURCE_CONFIG_VARIABLE) or resource_config.exists():
        return False
    log.info("there is no %s and no %s: nothing to do", resource_config, facts.RESOURCE_CONFIG_VARIABLE)
    return True


@contextmanager
def _alone(machine: Machine) -> Iterator[None]:
    """Hold the lock of the lifecycle; raise OperationFailed when another run has it."""
    path = machine.path("/run/hpadmin-lifecycle.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OperationFailed(
                "another on_create runs on this machine", hint="wait for it to end"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _tell(pending: dict[str, list[str]]) -> None:
    for stage, steps in pending.items():
        log.info("%s: %s", stage, "; ".join(steps) if steps else "nothing to do")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="on_create", description="Make this machine a node of its cluster.", allow_abbrev=False
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path("/opt/ml/bundle"),
        help="folder with the request and lifecycle.yaml",
    )
    parser.add_argument(
        "--resource-config",
        type=Path,
        default=Path(os.environ.get(facts.RESOURCE_CONFIG_VARIABLE) or facts.RESOURCE_CONFIG),
        help=f"the cluster's instances; default ${facts.RESOURCE_CONFIG_VARIABLE}, else {facts.RESOURCE_CONFIG}",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
