"""The SSH provider without a machine: a server that never ends what it begins, the site's command, the settings."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.nodes.provider import Answer, Condition, Repair
from hpadmin.nodes.providers import from_settings, ssh
from hpadmin.nodes.providers.ssh import Access, Ssh, SshRunner


class Endless(paramiko.ServerInterface):
    """Takes any command, and never tells how it ended."""

    def __init__(self, silent: bool, over: threading.Event) -> None:
        self.silent, self.over = silent, over

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._talk, args=(channel,), daemon=True).start()
        return True

    def _talk(self, channel: paramiko.Channel) -> None:
        if self.silent:
            channel.shutdown_write()
            return
        with contextlib.suppress(OSError):
            while not self.over.wait(0.05):
                channel.sendall(b"still at it\n")


@pytest.fixture(params=["silent", "talkative"])
def access(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Access]:
    host_key, key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    over = threading.Event()
    transports: list[paramiko.Transport] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = paramiko.Transport(server.accept()[0])
                    transport.add_server_key(host_key)
                    transport.start_server(server=Endless(request.param == "silent", over))
                    transports.append(transport)

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        known = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
        (tmp_path / "known_hosts").write_text(known)
        try:
            yield Access(
                "root", str(tmp_path / "id"), str(tmp_path / "known_hosts"), {"n1": f"127.0.0.1:{port}"}, 30
            )
        finally:
            over.set()
            for transport in transports:
                transport.close()


def test_a_command_that_never_tells_its_end_takes_no_longer_than_it_may(access: Access) -> None:
    with pytest.raises(OperationFailed, match="n1: reboot did not end: time ran out"):
        SshRunner(access, "n1").run(["reboot"], timeout=0.5)


NOWHERE = Access("root", "", "/nonexistent", {}, 1)


def test_the_sites_command_works_beside_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_PROMPT", 0.05)
    go, done = tmp_path / "go", tmp_path / "done"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; echo $0 >>{done}"
    provider = Ssh(["n1", "n2"], NOWHERE, replace=["sh", "-c", script, "{node}"])
    assert provider.repair(Repair.REPLACE, ["n1"])["n1"].answer is Answer.ACCEPTED
    assert provider.repair(Repair.REPLACE, ["n1"])["n1"].answer is Answer.BUSY
    assert [each.condition for each in provider.instances()] == [Condition.STARTING, Condition.RUNNING]
    go.touch()
    provider._at_work["n1"].wait(60)
    assert provider.instances()[0].condition is Condition.RUNNING
    assert done.read_text() == "n1\n"


def test_the_sites_command_refuses_in_its_own_words(tmp_path: Path) -> None:
    refusing = Ssh(["n1"], NOWHERE, replace=["sh", "-c", "echo no spare; exit 4"])
    outcome = refusing.repair(Repair.REPLACE, ["n1"])["n1"]
    assert (outcome.answer, outcome.code, outcome.message) == (Answer.REFUSED, "exit 4", "no spare")
    absent = Ssh(["n1"], NOWHERE, replace=[str(tmp_path / "swap")])
    outcome = absent.repair(Repair.REPLACE, ["n1"])["n1"]
    assert outcome.answer is Answer.REFUSED
    assert outcome.message == f"{tmp_path}/swap cannot be run: No such file or directory"


def test_hosts_are_checked(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    settings = {"kind": "ssh", "known_hosts": str(known)}
    good = {"n1": "fd00::1", "n2": "[fd00::2]:2222", "n3": "n3.example.com:2200"}
    provider = from_settings({**settings, "nodes": "n[1-3]", "hosts": good})
    assert [each.address for each in provider.instances()] == ["fd00::1", "fd00::2", "n3.example.com"]
    bad = {"n1": 5.5, "n2": "10.0.0.1:99999", "n3": "", "n4": "10.0.0.4", "n5": "a b"}
    with pytest.raises(InvalidInput) as caught:
        from_settings({**settings, "nodes": "n[1-3],n5", "hosts": {**bad, "n1": "10.0.0.1:ssh"}})
    paths = [problem.path for problem in caught.value.problems]
    assert paths == [f"provider.hosts.{name}" for name in ("n1", "n2", "n3", "n4", "n5")]
    with pytest.raises(InvalidInput, match=r"provider\.nodes"):
        from_settings({**settings, "nodes": "n[1-"})
