"""Machines that are reached by SSH: rebooted by a command on them, replaced by a command of the site's.

The command that replaces runs on this host, is given the node's name in place of ``{node}``, and must be safe
to run twice. It takes its time beside the agent's work, and goes on when the agent ends. Host keys are checked against
known_hosts; an unknown or changed key is an error, never accepted.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
from hpadmin.slurm.command import Completed, Runner
from hpadmin.slurm.hostlist import HostlistError, expand

log = logging.getLogger(__name__)

_PARALLEL = 16
_PROMPT = 2.0
"""Seconds in which a command that replaces can still refuse: after them it counts as at work."""
_TOLD = 2000
"""Bytes of its last words that are told."""
_PORT = 22
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def parse_host(text: str) -> tuple[str, int]:
    """Take ``address``, ``address:port`` or ``[address]:port`` apart. Raises ValueError for what is none of them.

    >>> parse_host("10.0.0.1:2222"), parse_host("fd00::1"), parse_host("[fd00::1]:2222")
    (('10.0.0.1', 2222), ('fd00::1', 22), ('fd00::1', 2222))
    """
    found = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^:\[\]\s]+))(?::(\d{1,5}))?|([^\[\]\s]+)", text)
    if found is None or (found[4] and found[4].count(":") < 2) or not 0 < int(found[3] or _PORT) < 65536:
        raise ValueError(f"must be an address, address:port or [address]:port, not {text!r}")
    return found[1] or found[2] or found[4], int(found[3] or _PORT)


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in. `hosts` maps a node to what `parse_host` reads, where its name is not enough."""

    user: str
    key: str
    known_hosts: str
    hosts: Mapping[str, str]
    timeout: float

    def connect(self, node: str) -> paramiko.SSHClient:
        """Log in. Raises OperationFailed with what is wrong, above all with the host key."""
        client = paramiko.SSHClient()
        try:
            address, port = parse_host(self.hosts.get(node, node))
            client.load_host_keys(self.known_hosts)
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            client.connect(
                address,
                port=port,
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
                sending, _, _ = client.exec_command(shlex.join(words), timeout=timeout)
                channel, deadline = sending.channel, time.monotonic() + timeout
                if stdin is not None:
                    sending.write(stdin)
                channel.shutdown_write()
                said = _read_all(channel, channel.recv, deadline)
                complained = _read_all(channel, channel.recv_stderr, deadline)
                # A machine that dies may end its output and never tell how the command ended.
                if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                code = channel.recv_exit_status()
            except (paramiko.SSHException, OSError) as error:
                raise OperationFailed(
                    f"{self.node}: {argv[0]} did not end: {str(error) or 'time ran out'}"
                ) from error
        return Completed(tuple(argv), code, said, complained)


def _read_all(channel: paramiko.Channel, read: Callable[[int], bytes], deadline: float) -> str:
    """Read one of the channel's streams to its end. Raises TimeoutError (socket.timeout) after `deadline`."""
    data = bytearray()
    while True:
        channel.settimeout(max(0.0, deadline - time.monotonic()))
        part = read(1 << 16)
        if not part:
            return data.decode("utf-8", "surrogateescape")
        data += part


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
    ) -> None:
        """`replace` is the site's command; without one, replacements are refused."""
        self._nodes = tuple(nodes)
        self._access = access
        self._reboot = tuple(reboot)
        self._replace = tuple(replace)
        self._at_work: dict[str, subprocess.Popen[bytes]] = {}

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
        try:
            nodes = tuple(expand(got["nodes"]))
        except HostlistError as error:
            nodes = ()
            problems.append(Problem("provider.nodes", error.message))
        problems += _host_problems(got["hosts"], nodes)
        if not Path(got["known_hosts"]).is_file():
            problems.append(Problem("provider.known_hosts", f"{got['known_hosts']} is not there"))
        if problems:
            raise InvalidInput("the provider's settings are not valid", problems)
        access = Access(got["user"], got["key"], got["known_hosts"], got["hosts"], got["timeout"])
        return Ssh(nodes, access, reboot=got["reboot"], replace=got["replace"])

    def instances(self) -> tuple[ProviderInstance, ...]:
        """Return the configured nodes. Whether a machine is well is left to Slurm and its own checks."""
        return tuple(
            ProviderInstance(
                node,
                node,
                Condition.STARTING if self._replacing(node) else Condition.RUNNING,
                address=parse_host(self._access.hosts[node])[0] if node in self._access.hosts else "",
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
        if self._replacing(node):
            return Outcome(Answer.BUSY, message="the site's command is still at work on it")
        words = [word.replace("{node}", node) for word in self._replace]
        # A file, not a pipe: the command outlives an agent that ends, and may go on talking.
        said = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when the command has ended
        try:
            command = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            said.close()
            return Outcome(Answer.REFUSED, message=f"{words[0]} cannot be run: {error.strerror}")
        self._at_work[node] = command
        try:
            code = command.wait(_PROMPT)
        except subprocess.TimeoutExpired:
            threading.Thread(target=_see_off, args=(node, command, said), daemon=True).start()
            return Outcome(Answer.ACCEPTED, message="the site's command is at work")
        last = _last_words(said)
        if code == 0:
            return Outcome(Answer.ACCEPTED)
        return Outcome(Answer.REFUSED, f"exit {code}", last)

    def _replacing(self, node: str) -> bool:
        command = self._at_work.get(node)
        return command is not None and command.poll() is None

    def runner(self, node: str) -> Runner | None:
        return SshRunner(self._access, node) if node in self._nodes else None


def _see_off(node: str, command: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    code = command.wait()
    last = _last_words(said)
    if code != 0:
        log.error(
            "the site's command did not replace a node", extra={"node": node, "exit": code, "said": last}
        )


def _last_words(said: IO[bytes]) -> str:
    with said:
        said.seek(max(0, said.seek(0, 2) - _TOLD))
        return said.read().decode("utf-8", "replace").strip()


def _host_problems(hosts: Mapping[str, Any], nodes: Sequence[str]) -> list[Problem]:
    problems = []
    for node, text in hosts.items():
        if node not in nodes:
            problems.append(Problem(f"provider.hosts.{node}", "is none of provider.nodes"))
        try:
            parse_host(str(text))
        except ValueError as error:
            problems.append(Problem(f"provider.hosts.{node}", str(error)))
    return problems
