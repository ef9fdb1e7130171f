"""Machines that are reached by SSH: rebooted by a command on them, replaced by a command of the site's.

The command that replaces runs on this host, is given the node's name in place of ``{node}``, and must be safe
to run twice. Host keys are checked against known_hosts; an unknown or changed key is an error, never accepted.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from hpadmin.errors import InvalidInput, OperationFailed, Problem
from hpadmin.nodes.provider import (
    Answer,
    Condition,
    Outcome,
    ProviderInstance,
    Repair,
)
from hpadmin.nodes.providers import take
from hpadmin.slurm.command import Completed, Local, Runner
from hpadmin.slurm.hostlist import expand

_PARALLEL = 16
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in. `hosts` maps a node to ``address`` or ``address:port`` where its name is not enough."""

    user: str
    key: str
    known_hosts: str
    hosts: Mapping[str, str]
    timeout: float

    def connect(self, node: str) -> paramiko.SSHClient:
        """Log in. Raises OperationFailed with what is wrong, above all with the host key."""
        address, _, port = self.hosts.get(node, node).partition(":")
        client = paramiko.SSHClient()
        try:
            client.load_host_keys(self.known_hosts)
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            client.connect(
                address,
                port=int(port or 22),
                username=self.user,
                # Given a file, paramiko tries every kind of key and tells of the last one's failure only.
                pkey=paramiko.PKey.from_path(self.key) if self.key else None,
                allow_agent=False,
                look_for_keys=not self.key,
                timeout=self.timeout,
                banner_timeout=self.timeout,
                auth_timeout=self.timeout,
            )
        except paramiko.BadHostKeyException as error:
            client.close()
            raise OperationFailed(
                f"{node}: its host key is not the one in {self.known_hosts}",
                hint="if it was installed anew, replace its line there",
            ) from error
        except (paramiko.SSHException, OSError, ValueError) as error:
            client.close()
            raise OperationFailed(f"{node}: {str(error) or type(error).__name__}") from error
        return client


@dataclass(frozen=True, slots=True)
class SshRunner:
    """Runs commands on one node; a `hpadmin.slurm.command.Runner`."""

    access: Access
    node: str

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        words = [*(["env", *(f"{key}={value}" for key, value in env.items())] if env else []), *argv]
        with contextlib.closing(self.access.connect(self.node)) as client:
            try:
                # SSH carries one string, which the login shell splits again: every word is quoted.
                sending, out, err = client.exec_command(shlex.join(words), timeout=timeout)
                if stdin is not None:
                    sending.write(stdin)
                sending.channel.shutdown_write()
                said = out.read().decode("utf-8", "surrogateescape")
                complained = err.read().decode("utf-8", "surrogateescape")
                code = out.channel.recv_exit_status()
            except (paramiko.SSHException, OSError) as error:
                raise OperationFailed(
                    f"{self.node}: {argv[0]} did not end: {str(error) or 'time ran out'}"
                ) from error
        return Completed(tuple(argv), code, said, complained)


class Ssh:
    """The nodes of a site, by name; there is no list of instances but the one that is configured."""

    name = "ssh"

    def __init__(
        self,
        nodes: Sequence[str],
        access: Access,
        *,
        reboot: Sequence[str] = ("systemctl", "reboot"),
        replace: Sequence[str] = (),
        local: Runner | None = None,
        patience: float = 600,
    ) -> None:
        """`replace` is the site's command, `patience` its seconds; without one, replacements are refused."""
        self._nodes = tuple(nodes)
        self._access = access
        self._reboot = tuple(reboot)
        self._replace = tuple(replace)
        self._local = local or Local()
        self._patience = patience

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> Ssh:
        """Make one from agent.toml: nodes, user, key, known_hosts, hosts, reboot, replace, timeout."""
        got = take(
            settings,
            nodes=str,
            user="root",
            key="",
            known_hosts="/etc/ssh/ssh_known_hosts",
            hosts={},
            reboot=["systemctl", "reboot"],
            replace=[],
            timeout=10.0,
        )
        problems = [
            Problem(f"provider.{key}", "must be a list of words, the command and its arguments")
            for key in ("reboot", "replace")
            if not all(isinstance(word, str) and word for word in got[key])
        ]
        if not Path(got["known_hosts"]).is_file():
            problems.append(Problem("provider.known_hosts", f"{got['known_hosts']} is not there"))
        if problems:
            raise InvalidInput("the provider's settings are not valid", problems)
        access = Access(got["user"], got["key"], got["known_hosts"], got["hosts"], got["timeout"])
        return Ssh(expand(got["nodes"]), access, reboot=got["reboot"], replace=got["replace"])

    def instances(self) -> tuple[ProviderInstance, ...]:
        """Return the configured nodes. Whether a machine is well is left to Slurm and its own checks."""
        return tuple(
            ProviderInstance(
                node, node, Condition.RUNNING, address=self._access.hosts.get(node, "").partition(":")[0]
            )
            for node in self._nodes
        )

    def node_recovery(self) -> bool:
        return True

    def repair(self, action: Repair, instance_ids: Sequence[str]) -> Mapping[str, Outcome]:
        with ThreadPoolExecutor(min(_PARALLEL, max(1, len(instance_ids)))) as pool:
            return dict(pool.map(lambda node: (node, self._repair(action, node)), instance_ids))

    def _repair(self, action: Repair, node: str) -> Outcome:
        if node not in self._nodes or not _NODE.fullmatch(node):
            return Outcome(Answer.GONE, message=f"{node} is none of the configured nodes")
        return self._rebooted(node) if action is Repair.REBOOT else self._replaced(node)

    def _rebooted(self, node: str) -> Outcome:
        try:
            done = SshRunner(self._access, node).run(self._reboot, timeout=self._access.timeout)
        except OperationFailed as error:
            # A machine that goes down at once breaks the connection before it answers.
            lost = "did not end" in error.message
            return Outcome(
                Answer.LOST if lost else Answer.LATER, message=f"{error.message} {error.hint}".strip()
            )
        if done.returncode in (0, -1):
            return Outcome(Answer.ACCEPTED)
        return Outcome(Answer.REFUSED, f"exit {done.returncode}", (done.stderr or done.stdout).strip())

    def _replaced(self, node: str) -> Outcome:
        if not self._replace:
            return Outcome(Answer.REFUSED, message="agent.toml names no command that replaces a node")
        words = [word.replace("{node}", node) for word in self._replace]
        try:
            done = self._local.run(words, timeout=self._patience)
        except OperationFailed as error:
            return Outcome(Answer.LOST, message=error.message)
        if done.returncode == 0:
            return Outcome(Answer.ACCEPTED)
        return Outcome(Answer.REFUSED, f"exit {done.returncode}", (done.stderr or done.stdout).strip())

    def runner(self, node: str) -> Runner | None:
        return SshRunner(self._access, node) if node in self._nodes else None
