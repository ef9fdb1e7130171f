"""Accounts and keys of a machine that a killed run has left half of."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpadmin.slurm.command import Completed
from lifecycle.machine import Machine
from lifecycle.stages import accounts, rest
from lifecycle.users import User
from tests.unit.lifecycle.support import machine

ANN = User("ann", 2001, "/home/ann")


def with_ann(root: Path, shadow: str | None) -> None:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("ann:x:2001:2001::/home/ann:/bin/bash\n")
    (root / "etc/group").write_text(f"{accounts.GROUP}:x:998:bob,ann\n")
    if shadow is not None:
        (root / "etc/shadow").write_text(shadow)


@pytest.mark.parametrize("shadow", [None, "root:*:1::::::\nann:!:1::::::\n"])
def test_a_whole_account_stays_as_it_is(tmp_path: Path, shadow: str | None) -> None:
    host, _ = machine(tmp_path)
    with_ann(tmp_path, shadow)
    assert accounts.Account(ANN).lacking(host) is None


def test_an_account_without_its_line_in_shadow_is_completed_without_a_password(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    with_ann(tmp_path, "root:*:1::::::\n")
    step = accounts.Account(ANN)
    assert step.lacking(host) == "complete user ann"
    step.make(host)
    (command,) = recorder.calls
    assert command[0] == "usermod"
    assert command[-3:] == ("--password", "!", "ann")


def test_a_password_that_is_there_is_never_touched(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    with_ann(tmp_path, "ann:$y$j9T$salt$hash:1::::::\n")
    (tmp_path / "etc/group").write_text(f"{accounts.GROUP}:x:998:\n")
    step = accounts.Account(ANN)
    assert step.lacking(host) == f"put user ann into {accounts.GROUP}"
    step.make(host)
    assert "--password" not in recorder.calls[0]


def test_a_system_account_without_its_group_gets_it(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    step = rest.SystemUser("slurmrest")
    assert step.lacking(host) == "add group slurmrest"
    step.make(host)
    owner = host.owner("slurmrest")
    assert owner
    assert recorder.calls == [("groupadd", "--gid", str(owner.gid), "slurmrest")]


def keygen(host: Machine, content: str) -> None:
    draft = host.partial(accounts.HOST_KEY)
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(content)
    draft.with_name(f"{draft.name}.pub").write_text(f"public {content}")


def test_half_a_host_key_is_made_anew_and_a_whole_one_appears_at_once(tmp_path: Path) -> None:
    def generate(argv: tuple[str, ...], _: str | None) -> Completed:
        draft = host.partial(accounts.HOST_KEY)
        assert argv[0] == "ssh-keygen"
        assert argv[-1] == str(draft)
        assert not draft.exists()
        keygen(host, "whole")
        return Completed(argv, 0, "", "")

    host, recorder = machine(tmp_path, generate)
    keygen(host, "ha")
    step = accounts.HostKey()
    assert step.lacking(host)
    step.make(host)
    assert step.lacking(host) is None
    assert len(recorder.calls) == 1
    names = {path.name: path.read_text() for path in (tmp_path / "etc/ssh").iterdir()}
    assert names == {"ssh_host_ed25519_key": "whole", "ssh_host_ed25519_key.pub": "public whole"}
