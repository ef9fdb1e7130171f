"""Stages without daemons: what each role gets, and what hostile values come to."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpadmin.configure import submission
from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.model import Filesystem, NodeType
from hpadmin.slurm.command import Completed
from lifecycle import secrets
from lifecycle import settings as wishes
from lifecycle.initscripts import SACKD, SLURMD, Daemon, script
from lifecycle.secrets import DirectorySecrets
from lifecycle.settings import Settings, from_data, render_options
from lifecycle.stages import ALL, accounts, authentication, extras, identity, storage, worker
from lifecycle.step import Block, File, Transient
from tests.unit.lifecycle.support import failing, machine, situation

LUSTRE = Filesystem("lustre", "fs-0a.fsx.us-west-2.amazonaws.com", "/fsx", "abcdefgh")
ZFS = Filesystem("openzfs", "fs-0b.fsx.us-west-2.amazonaws.com", "/home")


@pytest.mark.parametrize(
    ("role", "skipped"),
    [
        (NodeType.CONTROLLER, {"login", "compute"}),
        (NodeType.LOGIN, {"configuration", "controller", "compute"}),
        (NodeType.COMPUTE, {"configuration", "controller", "login"}),
    ],
)
def test_each_role_has_its_stages(tmp_path: Path, role: NodeType, skipped: set[str]) -> None:
    here = situation(tmp_path, role)
    own = {stage.name for stage in ALL if not stage.applies(here)}
    assert skipped <= own
    assert {"identity", "authentication", "ssh"}.isdisjoint(own)
    assert len({stage.name for stage in ALL}) == len(ALL)


def test_hosts_knows_oneself_and_the_controllers_and_no_node_that_may_be_replaced(tmp_path: Path) -> None:
    blocks = [step for step in identity.steps(situation(tmp_path)) if isinstance(step, Block)]
    lines = ("10.0.0.3 ip-10-0-0-3", "10.0.0.1 ip-10-0-0-1", "0.0.0.0 any-address.invalid")
    assert blocks == [Block("/etc/hosts", lines)]


def test_a_machine_keeps_its_own_name_where_its_node_has_another(tmp_path: Path) -> None:
    here = situation(tmp_path)
    work, head = here.node, here.cluster.controllers[0]
    work = replace(work, name="work-1", instance=replace(work.instance, hostname="ip-10-0-0-3"))
    head = replace(head, name="head-1", instance=replace(head.instance, hostname="ip-10-0-0-1"))
    here = replace(here, node=work, cluster=replace(here.cluster, controllers=(head,)))
    found = list(identity.steps(here))
    assert found[:2] == [identity.HostName("ip-10-0-0-3"), File("/etc/hostname", "ip-10-0-0-3\n")]
    lines = ("10.0.0.3 ip-10-0-0-3 work-1", "10.0.0.1 ip-10-0-0-1 head-1", "0.0.0.0 any-address.invalid")
    assert found[2:] == [Block("/etc/hosts", lines)]


def secret_folder(
    tmp_path: Path, content: bytes, mode: int = 0o400, folder_mode: int = 0o700
) -> DirectorySecrets:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "auth.key").write_bytes(content)
    (folder / "auth.key").chmod(mode)
    folder.chmod(folder_mode)
    return DirectorySecrets(folder, owner=folder.stat().st_uid)


def test_munges_key_is_its_own_alone(tmp_path: Path) -> None:
    here = situation(tmp_path, secrets=secret_folder(tmp_path, b"k" * 1024))
    files = [step for step in authentication.steps(here) if isinstance(step, File)]
    assert files == [File("/etc/munge/munge.key", b"k" * 1024, 0o400, "munge")]


def test_slurms_own_key_lies_beside_its_configuration(tmp_path: Path) -> None:
    here = situation(tmp_path, settings=Settings(auth="slurm"), secrets=secret_folder(tmp_path, b"k" * 1024))
    files = [step for step in authentication.steps(here) if isinstance(step, File)]
    assert files == [File("/etc/slurm/slurm.key", b"k" * 1024, 0o600, "slurm")]


@pytest.mark.parametrize(("mode", "folder_mode"), [(0o444, 0o700), (0o440, 0o700), (0o400, 0o755)])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, mode: int, folder_mode: int) -> None:
    source = secret_folder(tmp_path, b"topsecret" * 8, mode, folder_mode)
    with pytest.raises(OperationFailed, match="is not safe") as error:
        source.get("auth.key")
    assert "topsecret" not in str(error.value) + error.value.hint


@pytest.mark.parametrize("size", [0, 31, 1025])
def test_a_key_that_munge_would_refuse_is_told_by_its_size_alone(tmp_path: Path, size: int) -> None:
    here = situation(tmp_path, secrets=secret_folder(tmp_path, b"s3cr3t"[:1] * size))
    with pytest.raises(OperationFailed, match=f"has {size} bytes: munge needs 32 to 1024"):
        list(authentication.steps(here))


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    source = DirectorySecrets(tmp_path / "empty", owner=tmp_path.stat().st_uid)
    with pytest.raises(
        OperationFailed, match=r"the secret auth.key is missing: there is no .*/empty/auth.key"
    ):
        source.get("auth.key")


@pytest.mark.parametrize("text", ["", "relative/path", "vault:x"])
def test_an_unknown_source_of_secrets_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="secrets must be"):
        secrets.source(text)


def test_an_arn_that_is_no_secrets_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="arn:aws is no ARN of a secret"):
        secrets.source("secretsmanager:arn:aws")
    source = secrets.source("secretsmanager:arn:aws:secretsmanager:us-west-2:111122223333:secret:cluster/")
    assert isinstance(source, secrets.ManagerSecrets)


def test_mounts_have_the_documented_sources_and_options() -> None:
    assert storage.mount_of(LUSTRE).line == (
        "fs-0a.fsx.us-west-2.amazonaws.com@tcp:/abcdefgh /fsx lustre "
        "noatime,flock,_netdev,x-systemd.automount,x-systemd.requires=network-online.target 0 0"
    )
    assert storage.mount_of(ZFS).line.startswith(
        "fs-0b.fsx.us-west-2.amazonaws.com:/fsx /home nfs nfsvers=4.2,"
    )


@pytest.mark.parametrize(
    "filesystem",
    [
        Filesystem("openzfs", "host /x nfs rw 0 0\n", "/home"),
        Filesystem("openzfs", "host", "/ho me"),
        Filesystem("openzfs", "host", "home"),
        Filesystem("openzfs", "host", "/srv/../etc"),
        Filesystem("lustre", "host", "/fsx", "a#b"),
    ],
)
def test_nothing_hostile_reaches_fstab(tmp_path: Path, filesystem: Filesystem) -> None:
    with pytest.raises(InvalidInput):
        list(storage.steps(situation(tmp_path, filesystems=(filesystem,))))


def mountinfo(root: Path, *lines: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))


MOUNTED = "36 25 0:31 / /home rw,relatime shared:1 - nfs4 fs-0b.fsx.us-west-2.amazonaws.com:/fsx rw"


def test_what_is_mounted_is_left_alone(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    mountinfo(tmp_path, MOUNTED)
    assert storage.Mounted(storage.mount_of(ZFS), "openzfs").lacking(host) is None
    assert recorder.calls == []


@pytest.mark.parametrize(
    "source", ["10.1.71.197@tcp:/abcdefgh", "10.1.71.197@tcp:10.1.71.198@tcp:/abcdefgh/"]
)
def test_lustre_is_known_by_its_name_as_its_client_shows_addresses(tmp_path: Path, source: str) -> None:
    host, _ = machine(tmp_path)
    mountinfo(tmp_path, f"36 25 0:31 / /fsx rw,noatime - lustre {source} rw,flock")
    assert storage.Mounted(storage.mount_of(LUSTRE), "lustre").lacking(host) is None


def test_another_lustre_on_the_mount_point_is_an_error(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    mountinfo(tmp_path, "36 25 0:31 / /fsx rw,noatime - lustre 10.1.71.197@tcp:/oyuutbev rw,flock")
    with pytest.raises(OperationFailed, match=r"10.1.71.197@tcp:/oyuutbev \(lustre\) is mounted on /fsx"):
        storage.Mounted(storage.mount_of(LUSTRE), "lustre").lacking(host)


def test_a_file_system_whose_process_was_killed_is_mounted_anew(tmp_path: Path) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        said = "stat: cannot read file system information for '/home': Transport endpoint is not connected"
        return Completed(argv, 1, "", said) if argv[0] == "stat" else Completed(argv, 0, "", "")

    host, recorder = machine(tmp_path, answer)
    mountinfo(tmp_path, MOUNTED.replace("nfs4", "fuse.nfs"))
    step = storage.Mounted(storage.mount_of(ZFS), "openzfs")
    assert step.lacking(host) == "mount fs-0b.fsx.us-west-2.amazonaws.com:/fsx on /home anew"
    step.make(host)
    assert recorder.calls[1:] == [("umount", "--lazy", "/home"), ("mount", "/home")]


def test_a_file_system_whose_server_is_away_is_left_alone(tmp_path: Path) -> None:
    host, _ = machine(tmp_path, failing)
    mountinfo(tmp_path, MOUNTED.replace("nfs4", "fuse.nfs"))
    assert storage.Mounted(storage.mount_of(ZFS), "openzfs").lacking(host) is None


def test_something_else_on_the_mount_point_is_an_error_and_stays(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    mountinfo(tmp_path, MOUNTED.replace("fs-0b", "fs-0c"))
    with pytest.raises(OperationFailed, match=r"fs-0c.* \(nfs4\) is mounted on /home, where fs-0b.* belongs"):
        storage.Mounted(storage.mount_of(ZFS), "openzfs").lacking(host)
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (MOUNTED, ("fs-0b.fsx.us-west-2.amazonaws.com:/fsx", "nfs4")),
        (r"36 25 0:31 / /my\040home rw - nfs4 h:/a\040b rw", None),
        ("36 25 0:31 / /home rw - autofs systemd-1 rw", None),
        ("36 25 0:31 / /homes rw - ext4 /dev/vda rw", None),
    ],
)
def test_mountinfo(tmp_path: Path, line: str, found: tuple[str, str] | None) -> None:
    host, _ = machine(tmp_path)
    mountinfo(tmp_path, line)
    assert storage.mounted(host, "/home") == found


def test_a_file_server_that_refuses_is_tried_again(tmp_path: Path) -> None:
    host, _ = machine(tmp_path, lambda argv, stdin: Completed(argv, 32, "Connection timed out", ""))
    mountinfo(tmp_path)
    with pytest.raises(Transient, match="cannot be mounted on /home: Connection timed out"):
        storage.Mounted(storage.mount_of(ZFS), "openzfs").make(host)


def test_a_file_system_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        return (
            Completed(argv, 1, "", "Read-only file system") if argv[0] == "dd" else Completed(argv, 0, "", "")
        )

    host, recorder = machine(tmp_path, answer)
    mountinfo(tmp_path)
    with pytest.raises(OperationFailed, match="cannot be written: Read-only file system"):
        storage.Tested(storage.mount_of(ZFS)).make(host)
    assert recorder.calls[-1][:2] == ("rm", "-f")


def test_what_others_put_into_a_shared_folder_is_not_written_through(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (tmp_path / "precious").write_text("theirs")
    planted: list[str] = []

    def answer(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[0] == "dd":
            name = argv[2].removeprefix("of=")
            planted.append(name)
            Path(name).symlink_to(tmp_path / "precious")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return Completed(argv, done.returncode, done.stdout, done.stderr)

    host, _ = machine(tmp_path, answer)
    with pytest.raises(OperationFailed, match=r"cannot be written: .*File exists"):
        storage.Tested(storage.Mount("server:/fsx", str(folder), "nfs", "")).make(host)
    assert (tmp_path / "precious").read_text() == "theirs"
    (name,) = planted
    assert len(name.rpartition(".")[2]) == 32  # and nobody knows it before


def test_a_file_system_is_tested_once_and_again_after_a_run_that_was_killed(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    step = storage.Tested(storage.mount_of(ZFS))
    assert step.lacking(host) == "write a test file to /home"
    step.make(host)
    assert [call[0] for call in recorder.calls] == ["rm", "dd", "rm"]
    assert step.lacking(host) is None
    records = tmp_path / "var/lib/hpadmin/lifecycle/mounts"
    assert [path.name for path in records.iterdir()] == ["home"]
    (records / "home").unlink()
    assert step.lacking(host) is not None


def test_the_test_file_of_a_run_that_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(argv: tuple[str, ...], stdin: str | None) -> Completed:
        if argv[0] == "dd":
            raise Killed
        return Completed(argv, 0, "", "")

    step = storage.Tested(storage.mount_of(ZFS))
    killed, first = machine(tmp_path, die)
    with pytest.raises(Killed):
        step.make(killed)
    host, second = machine(tmp_path)
    step.make(host)
    assert second.calls[0] == first.calls[0]


@pytest.mark.parametrize(
    ("filesystems", "home", "here"),
    [((), "/home/ann", True), ((ZFS,), "/home/ann", True), ((LUSTRE,), "/fsx/ann", True)],
)
def test_homes_are_made_where_their_file_system_is(
    tmp_path: Path, filesystems: tuple[Filesystem, ...], home: str, here: bool
) -> None:
    assert accounts.has_homes(situation(tmp_path, filesystems=filesystems), home) is here


def test_a_home_that_belongs_to_somebody_else_is_never_touched(tmp_path: Path) -> None:
    from lifecycle.users import User

    host, _ = machine(tmp_path)
    (tmp_path / "home/ann").mkdir(parents=True)
    with pytest.raises(OperationFailed, match="/home/ann exists and belongs to user id"):
        accounts.Home(User("ann", 54321, "/home/ann")).lacking(host)


def test_users_may_log_in_on_login_nodes_alone(tmp_path: Path) -> None:
    def config(role: NodeType) -> str:
        files = [step for step in accounts.ssh(situation(tmp_path, role)) if isinstance(step, File)]
        return str(files[0].content)

    assert "DenyGroups hpadmin-users" in config(NodeType.COMPUTE)
    assert "DenyGroups hpadmin-users" in config(NodeType.CONTROLLER)
    assert "DenyGroups" not in config(NodeType.LOGIN)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("NodeName=ip-10-0-0-3 Arch=x86_64", ""), None),
        (("", "Node ip-10-0-0-3 not found"), "does not have node ip-10-0-0-3 in its configuration yet"),
        (("", "slurm_load_node: Unable to contact slurm controller"), "Unable to contact slurm controller"),
        (("", ""), "it said nothing"),
    ],
)
def test_a_node_waits_for_a_controller_that_knows_it(
    tmp_path: Path, answer: tuple[str, str], said: str | None
) -> None:
    host, _ = machine(tmp_path, lambda argv, stdin: Completed(argv, 0 if answer[0] else 1, *answer))
    step = worker.ControllerKnows("ip-10-0-0-3", "10.0.0.1")
    if said is None:
        assert step.lacking(host) is None
    else:
        assert step.lacking(host) == "wait until the controller knows this node"
        with pytest.raises(Transient, match=said):
            step.make(host)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            "NodeName=x CPUs=2 Boards=1 CoresPerSocket=1 ThreadsPerCore=2 RealMemory=3900\nUpTime=0-01:00:00\n",
            "",
        ),
        ("NodeName=x CPUs=1 RealMemory=3900", "has 1 CPUs instead of 2 for an ml.c5.large"),
        ("CPUs=1 RealMemory=99", "has 1 CPUs instead of 2 and 99 MiB of memory instead of 3072 for"),
        ("", "has no CPUs instead of 2 and no MiB of memory"),
    ],
)
def test_a_machine_with_less_than_its_type_has_is_no_node(tmp_path: Path, told: str, said: str) -> None:
    host, _ = machine(tmp_path, lambda argv, stdin: Completed(argv, 0, told, ""))
    step = worker.Equipped(replace(situation(tmp_path).node, threads_per_core=2))
    if not said:
        assert step.lacking(host) is None
        return
    assert step.lacking(host) == "find the hardware that the node is configured with"
    with pytest.raises(OperationFailed, match=said):
        step.make(host)


def test_hardware_that_only_counts_as_configured_is_not_compared(tmp_path: Path) -> None:
    def compared(wanted: Settings) -> bool:
        return any(
            isinstance(step, worker.Equipped) for step in worker.compute(situation(tmp_path, settings=wanted))
        )

    assert compared(Settings())
    assert not compared(Settings(profile="container"))
    assert not compared(Settings(slurm={"settings": {"SlurmdParameters": "config_overrides"}}))


@pytest.mark.parametrize("daemon", [SLURMD, SACKD])
def test_init_scripts_are_sound_shell(tmp_path: Path, daemon: Daemon) -> None:
    path = tmp_path / daemon.name
    path.write_text(script(daemon))
    subprocess.run(["sh", "-n", str(path)], check=True)


# --- lifecycle.yaml -------------------------------------------------------------------------------------------


def test_without_a_file_all_defaults_hold(tmp_path: Path) -> None:
    assert wishes.load(tmp_path) == Settings()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"profil": "host"}, "profil"),
        ({"profile": "vm"}, "profile"),
        ({"auth": "none"}, "auth"),
        ({"accounting": "yes"}, "accounting"),
        ({"slurm": []}, "slurm"),
        ({"health_check": "yes"}, "health_check"),
        ({"login_shell_groups": ["Everybody"]}, "login_shell_groups"),
        ({"login_shell_groups": [["Login"]]}, "login_shell_groups"),
        ({"login_shell_groups": "Login"}, "login_shell_groups"),
        ({"node_names": "serial"}, "node_names"),
        ({"node_names": []}, "node_names"),
        ({"profile": ["host"]}, "profile"),
        ({"account": "Research"}, "account"),
        ({"account": "a,b"}, "account"),
        ([], ""),
    ],
)
def test_what_is_wrong_with_the_settings_is_told_by_its_place(data: object, path: str) -> None:
    with pytest.raises(InvalidInput) as error:
        from_data(data, "lifecycle.yaml")
    assert [problem.path for problem in error.value.problems] == [path]


def test_a_wrong_value_is_told_with_what_there_is() -> None:
    with pytest.raises(InvalidInput) as error:
        from_data({"node_names": "serial"}, "lifecycle.yaml")
    assert [str(problem) for problem in error.value.problems] == [
        "node_names: must be address or instance, got 'serial'"
    ]


def test_a_container_gets_no_control_groups(tmp_path: Path) -> None:
    options = render_options(Settings(profile="container"), situation(tmp_path).cluster)
    assert (options.process_tracking, options.config_overrides, options.reboot_program) == (
        "linuxproc",
        True,
        None,
    )


def test_an_unknown_option_of_slurm_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"lifecycle.yaml"):
        render_options(Settings(slurm={"relase": "24.11"}), situation(tmp_path).cluster)


def test_a_controller_that_is_too_busy_to_answer_is_asked_again(tmp_path: Path) -> None:
    box, _ = machine(tmp_path, failing)
    for step in (worker.Registered("n", "/var/log/slurm/slurmd.log"), worker.Fetched("10.0.0.1")):
        with pytest.raises(Transient, match="scontrol did not end in time"):
            step.lacking(box)


# --- submission -----------------------------------------------------------------------------------------------


def test_the_judgement_of_segments_lies_where_the_controllers_script_looks_for_it(tmp_path: Path) -> None:
    steps = [step for step in extras.submission_checks(situation(tmp_path)) if isinstance(step, File)]
    assert [step.path for step in steps] == ["/usr/share/hpadmin/hpadmin_segments.lua"]
    assert '"/usr/share/hpadmin"' in submission.script("cli_filter.lua")


def test_a_slurm_without_lua_is_told_before_anything_is_configured_for_it(tmp_path: Path) -> None:
    box, _ = machine(tmp_path)
    lua = extras.LuaPlugin("CliFilterPlugins", "cli_filter_lua.so")
    with pytest.raises(OperationFailed, match=r"there is no cli_filter_lua.so for CliFilterPlugins") as error:
        lua.make(box)
    assert "submission_checks: false" in str(error.value.hint)
    names = [stage.name for stage in ALL]
    assert names.index("submission") < names.index("configuration")
    (tmp_path / "opt/slurm/lib/slurm").mkdir(parents=True)
    (tmp_path / "opt/slurm/lib/slurm/cli_filter_lua.so").touch()
    assert lua.lacking(box) is None


def test_submission_checks_can_be_turned_off(tmp_path: Path) -> None:
    settings = from_data({"submission_checks": False}, "lifecycle.yaml")
    assert not extras.SUBMISSION.applies(situation(tmp_path, settings=settings))
    assert extras.SUBMISSION.applies(situation(tmp_path))
