"""Accounts and keys of a machine that a killed run has left half of."""

from __future__ import annotations

import errno
import grp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.slurm.command import Completed
from lifecycle.engine import Stage, run
from lifecycle.machine import Machine
from lifecycle.stages import accounts, rest
from lifecycle.step import Step
from lifecycle.users import User
from tests.unit.lifecycle.support import Hands, machine, situation

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


# --- a user's own home ------------------------------------------------------------------------------------------

MYSELF = User("ann", os.getuid(), "/home/ann", ("ssh-ed25519 " + "A" * 40,))


def generate(argv: tuple[str, ...], stdin: str | None) -> Completed:
    """ssh-keygen(1) as far as it is used."""
    if "-y" in argv:
        return Completed(argv, 0, "ssh-ed25519 own ann\n", "")
    Path(argv[-1]).write_text("private")
    return Completed(argv, 0, "", "")


def through(host: Machine, step: Step) -> list[str]:
    """Bring a step through the engine; return what was changed."""
    here = situation(host.root)
    record = run(host, here, [Stage("users", "users", lambda _: [step])], Hands().clock())
    return list(record.stages[0].changes)


def test_a_user_gets_a_key_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    host, _ = machine(tmp_path, generate)
    (tmp_path / "home/ann").mkdir(parents=True)
    assert through(host, accounts.Keys(MYSELF)) == ["make SSH keys of ann"]
    assert through(host, accounts.Keys(MYSELF)) == []
    folder = tmp_path / "home/ann/.ssh"
    assert sorted(path.name for path in folder.iterdir()) == [
        "authorized_keys",
        "id_ed25519",
        "id_ed25519.pub",
    ]
    lines = (folder / "authorized_keys").read_text().splitlines()
    assert lines == ["# BEGIN hpadmin", *MYSELF.keys, "ssh-ed25519 own ann", "# END hpadmin"]


def pipe(ssh: Path) -> None:
    os.mkfifo(ssh / "authorized_keys")


def endless(ssh: Path) -> None:
    (ssh / "id_ed25519").touch()
    (ssh / "id_ed25519.pub").symlink_to("/dev/zero")


def large(ssh: Path) -> None:
    with (ssh / "authorized_keys").open("wb") as file:
        file.truncate(1 << 30)


def dangling(ssh: Path) -> None:
    (ssh / "id_ed25519").symlink_to("nowhere")


def no_folder(ssh: Path) -> None:
    ssh.rmdir()
    ssh.touch()


def no_end(ssh: Path) -> None:
    (ssh / "id_ed25519").touch()
    (ssh / "id_ed25519.pub").touch()
    (ssh / "authorized_keys").write_text("# BEGIN hpadmin\nmine\n")


@pytest.mark.parametrize(
    ("arrange", "cause"),
    [
        (pipe, "/home/ann/.ssh/authorized_keys is no regular file"),
        (endless, "/home/ann/.ssh/id_ed25519.pub is a link"),
        (large, "/home/ann/.ssh/authorized_keys has more than 1048576 bytes"),
        (dangling, "/home/ann/.ssh/id_ed25519 is a link"),
        (no_folder, "/home/ann/.ssh: File exists"),
        (no_end, "/home/ann/.ssh/authorized_keys: the block that begins in line 1 has no end"),
    ],
)
def test_what_a_user_has_in_the_way_of_keys_is_left_to_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arrange: Callable[[Path], None], cause: str
) -> None:
    host, _ = machine(tmp_path, generate)
    ssh = tmp_path / "home/ann/.ssh"
    ssh.mkdir(parents=True)
    arrange(ssh)
    before = {path: path.lstat().st_mtime_ns for path in ssh.parent.rglob("*")}
    through(host, accounts.Keys(MYSELF))
    assert {path: path.lstat().st_mtime_ns for path in ssh.parent.rglob("*")} == before
    assert [
        r.getMessage().replace(str(tmp_path), "") for r in caplog.records if r.levelname == "WARNING"
    ] == [f"  SSH keys of ann: {cause}; left to the user"]


def test_a_key_with_a_passphrase_is_left_to_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host, _ = machine(
        tmp_path, lambda argv, stdin: Completed(argv, 255, "", "incorrect passphrase\nsupplied")
    )
    (tmp_path / "home/ann/.ssh").mkdir(parents=True)
    (tmp_path / "home/ann/.ssh/id_ed25519").touch()
    through(host, accounts.Keys(MYSELF))
    assert "said: incorrect passphrase supplied; left to the user" in caplog.text


def test_a_file_server_that_is_away_while_keys_are_made_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(uid: int, gid: int, what: object) -> str:
        raise OSError(errno.ESTALE, "Stale file handle", "/home/ann/.ssh")

    monkeypatch.setattr(accounts, "as_user", away)
    host, _ = machine(tmp_path)
    with pytest.raises(OSError, match="Stale file handle"):
        accounts.Keys(MYSELF).lacking(host)


def test_a_home_that_its_user_made_a_link_stays_one(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/ann").symlink_to("/elsewhere/ann")
    assert accounts.Home(MYSELF).lacking(host) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("root,2001", "shared_users.txt:1: the name root belongs to the system"),
        (f"{accounts.GROUP},2001", f"shared_users.txt:1: the name {accounts.GROUP} belongs to the system"),
        ("tty,2001", f"tty: has group id {grp.getgrnam('tty').gr_gid} on this machine, 2001 is wanted"),
    ],
)
def test_names_of_the_machine_are_no_users(tmp_path: Path, line: str, said: str) -> None:
    here = situation(tmp_path)
    here.bundle.mkdir()
    (here.bundle / "shared_users.txt").write_text(f"{line}\n")
    with pytest.raises(InvalidInput) as error:
        accounts.users(here)
    assert [str(problem) for problem in error.value.problems] == [said]
