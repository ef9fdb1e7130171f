"""The SSH provider against a real sshd in a container: logging in, host keys, quoting, reboots that cut the line."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.lab import image
from hpadmin.lab.engine import ContainerRunner, connect
from hpadmin.nodes.provider import Answer, Condition, Repair
from hpadmin.nodes.providers import from_settings
from hpadmin.nodes.providers.ssh import Access, Ssh, SshRunner
from tests.support.labs import wait_until

pytestmark = pytest.mark.slurm


@dataclass(frozen=True)
class Machine:
    """A container with sshd, and what is needed to log in."""

    address: str
    folder: Path
    root: ContainerRunner

    def access(self, *, known: str = "known_hosts", key: str = "id", timeout: float = 10) -> Access:
        return Access("root", str(self.folder / key), str(self.folder / known), {"n1": self.address}, timeout)

    def provider(self, *, reboot: list[str], replace: list[str] | None = None) -> Ssh:
        return Ssh(["n1", "n2"], self.access(), reboot=reboot, replace=replace or [])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("ssh")
    client = connect()
    container = client.containers.run(
        image.ensure_node(client),
        entrypoint=["sleep", "infinity"],
        name=f"hpadmin-test-ssh-{uuid.uuid4().hex[:8]}",
        init=True,
        detach=True,
        labels={"hpadmin.test": "ssh"},
    )
    try:
        for name in ("id", "stranger"):
            key = paramiko.RSAKey.generate(2048)
            key.write_private_key_file(str(folder / name))
            if name == "id":
                public = f"ssh-rsa {key.get_base64()}\n"
        root = ContainerRunner(client, str(container.name))
        root.run(["mkdir", "-p", "-m", "700", "/root/.ssh", "/run/sshd"], timeout=120).check()
        root.put("/root/.ssh/authorized_keys", public, mode=0o600)
        root.run(["ssh-keygen", "-A"], timeout=240).check()
        root.run(["/usr/sbin/sshd"], timeout=120).check()
        container.reload()
        address = next(iter(container.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
        host_key = root.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"], timeout=120).check().stdout.split()
        (folder / "known_hosts").write_text(f"{address} {host_key[0]} {host_key[1]}\n")
        (folder / "empty").write_text("")
        changed = paramiko.RSAKey.generate(2048).get_base64()
        (folder / "changed").write_text(f"{address} ssh-rsa {changed}\n")
        yield Machine(address, folder, root)
    finally:
        container.remove(force=True)
        client.close()


def test_words_arrive_as_they_were_given(machine: Machine) -> None:
    runner = SshRunner(machine.access(), "n1")
    words = ["a b", "it's", '"', "$HOME", "; touch /pwned", "`id`", "*", "", "line\nend"]
    done = runner.run(["printf", "<%s>", *words], timeout=120).check()
    assert done.stdout == "".join(f"<{word}>" for word in words)
    assert machine.root.run(["test", "-e", "/pwned"], timeout=120).returncode == 1


def test_input_environment_and_exit_code(machine: Machine) -> None:
    runner = SshRunner(machine.access(), "n1")
    assert runner.run(["cat"], timeout=120, stdin="x\ny").stdout == "x\ny"
    assert runner.run(["printenv", "WHY"], timeout=120, env={"WHY": "a b;c"}).stdout == "a b;c\n"
    done = runner.run(["sh", "-c", "echo bad >&2; exit 7"], timeout=120)
    assert (done.returncode, done.stderr) == (7, "bad\n")


def test_an_unknown_host_key_is_never_accepted(machine: Machine) -> None:
    with pytest.raises(OperationFailed, match="not found in known_hosts"):
        SshRunner(machine.access(known="empty"), "n1").run(["true"], timeout=30)


def test_a_changed_host_key_is_told_as_such(machine: Machine) -> None:
    with pytest.raises(
        OperationFailed, match=r"host key is not the one in|not found in known_hosts"
    ) as caught:
        SshRunner(machine.access(known="changed"), "n1").run(["true"], timeout=30)
    assert "n1" in caught.value.message


def test_a_stranger_may_not_log_in(machine: Machine) -> None:
    with pytest.raises(OperationFailed, match="Authentication failed"):
        SshRunner(machine.access(key="stranger"), "n1").run(["true"], timeout=30)


def test_reboot_is_a_command_on_the_machine(machine: Machine) -> None:
    outcomes = machine.provider(reboot=["touch", "/rebooted"]).repair(Repair.REBOOT, ["n1", "n3"])
    assert outcomes["n1"].answer is Answer.ACCEPTED
    assert outcomes["n3"].answer is Answer.GONE
    assert machine.root.run(["test", "-e", "/rebooted"], timeout=120).returncode == 0


def test_a_reboot_that_fails_is_refused_with_its_words(machine: Machine) -> None:
    provider = machine.provider(reboot=["sh", "-c", "echo no rights >&2; exit 3"])
    outcome = provider.repair(Repair.REBOOT, ["n1"])["n1"]
    assert (outcome.answer, outcome.code, outcome.message) == (Answer.REFUSED, "exit 3", "no rights")


def test_a_reboot_that_hangs_may_have_been_heard(machine: Machine) -> None:
    # Time enough to log in, on a slow machine too, and none for the command.
    provider = Ssh(["n1"], machine.access(timeout=5), reboot=["sleep", "120"])
    assert provider.repair(Repair.REBOOT, ["n1"])["n1"].answer is Answer.LOST


def test_a_machine_that_is_not_there_is_asked_later(machine: Machine) -> None:
    provider = Ssh(["n1"], Access("root", "", str(machine.folder / "empty"), {"n1": "127.0.0.1:9"}, 1))
    assert provider.repair(Repair.REBOOT, ["n1"])["n1"].answer is Answer.LATER


def test_replacement_is_the_sites_command(machine: Machine, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    provider = machine.provider(reboot=["true"], replace=["sh", "-c", f'echo "$0" >>{trace}', "{node}"])
    assert provider.repair(Repair.REPLACE, ["n1"])["n1"].answer is Answer.ACCEPTED
    assert trace.read_text() == "n1\n"
    failing = machine.provider(reboot=["true"], replace=["sh", "-c", "echo no spare; exit 4"])
    outcome = failing.repair(Repair.REPLACE, ["n1"])["n1"]
    assert (outcome.answer, outcome.code, outcome.message) == (Answer.REFUSED, "exit 4", "no spare")
    assert machine.provider(reboot=["true"]).repair(Repair.REPLACE, ["n1"])["n1"].answer is Answer.REFUSED


def test_settings(machine: Machine) -> None:
    known = str(machine.folder / "known_hosts")
    provider = from_settings(
        {"kind": "ssh", "nodes": "n[1-3]", "known_hosts": known, "hosts": {"n1": "10.0.0.1:2222"}}
    )
    assert [(each.node, each.address, each.condition) for each in provider.instances()] == [
        ("n1", "10.0.0.1", Condition.RUNNING),
        ("n2", "", Condition.RUNNING),
        ("n3", "", Condition.RUNNING),
    ]
    assert provider.runner("n4") is None
    with pytest.raises(InvalidInput) as caught:
        from_settings({"kind": "ssh", "nodes": "n1", "known_hosts": "/nowhere", "reboot": [1]})
    assert [problem.path for problem in caught.value.problems] == ["provider.reboot", "provider.known_hosts"]


def test_a_real_reboot_cuts_the_line(machine: Machine) -> None:
    """Last of all, as sshd is gone afterwards."""
    provider = machine.provider(reboot=["sh", "-c", "pkill -9 sshd; sleep 5"])
    outcome = provider.repair(Repair.REBOOT, ["n1"])["n1"]
    assert outcome.answer in (Answer.LOST, Answer.ACCEPTED)

    def refused() -> bool:
        with contextlib.suppress(OperationFailed):
            machine.access(timeout=1).connect("n1").close()
            return False
        return True

    wait_until(refused, 240, "sshd gone")
