"""Rules that slurmctld cannot be asked about: permissions, releases, files alone; and what no input may do."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpadmin.errors import InvalidInput
from hpadmin.slurmconf.lint import Finding, Severity, facts, lint_files, lint_path
from hpadmin.slurmconf.lint.codes import CODES
from tests.support.steps import counted
from tests.unit.slurmconf_lint.cases import BASE, CASES, GOOD

FILES = {name: text.encode() for name, text in BASE.items()}
DOCS = Path(__file__).parents[3] / "docs" / "lint.md"


def codes(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings}


def folder(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    for name, content in files.items():
        (path / name).write_bytes(content)
        (path / name).chmod((modes or {}).get(name, 0o644))
    return path


@pytest.mark.parametrize(
    ("name", "mode", "severity"),
    [
        ("slurmdbd.conf", 0o644, Severity.ERROR),
        ("slurmdbd.conf", 0o640, Severity.ERROR),
        ("slurm.key", 0o644, Severity.ERROR),
        ("slurm.conf", 0o666, Severity.ERROR),
        ("plugstack.conf", 0o666, Severity.ERROR),
        ("slurm.conf", 0o640, Severity.WARNING),
    ],
)
def test_wrong_permissions(tmp_path: Path, name: str, mode: int, severity: Severity) -> None:
    files = {**FILES, "slurmdbd.conf": b"StorageType=accounting_storage/mysql\n", "slurm.key": b"k"}
    modes = {"slurmdbd.conf": 0o600, "slurm.key": 0o600}
    assert not lint_path(folder(tmp_path, files, modes))
    [finding] = lint_path(folder(tmp_path, files, {**modes, name: mode}))
    assert (finding.file, finding.code, finding.severity) == (name, "permissions", severity)


def test_included_files_of_slurmdbd_are_as_secret(tmp_path: Path) -> None:
    files = {"slurmdbd.conf": b"Include pass.conf\n", "pass.conf": b"StoragePass=secret\n"}
    findings = lint_path(folder(tmp_path, files, {"slurmdbd.conf": 0o600}))
    assert [(finding.file, finding.code) for finding in findings] == [("pass.conf", "permissions")]


def test_a_password_in_slurm_conf() -> None:
    files = {**FILES, "slurm.conf": FILES["slurm.conf"] + b"JobCompPass=secret\n"}
    assert "secret-in-slurm-conf" in codes(lint_files(files))
    socket = {**FILES, "slurm.conf": FILES["slurm.conf"] + b"AccountingStoragePass=/run/munge/socket\n"}
    assert "secret-in-slurm-conf" not in codes(lint_files(socket))


@pytest.mark.parametrize(
    ("line", "release", "code"),
    [
        (b"PrologTimeout=60\n", "24.11", "key-not-in-release"),
        (b"PrologTimeout=60\n", "25.05", ""),
        (b"AccountingStorageLoc=x\n", "25.05", "removed-key"),
        (b"AccountingStorageLoc=x\n", "25.11", "key-not-in-release"),
        (b"FrontendName=f\n", "25.05", "key-not-in-release"),
        (b"HealthCheckTimeout=60\n", "25.11", "key-not-in-release"),
        (b"HealthCheckTimeout=60\n", "26.05", ""),
        (b"CacheGroups=1\n", "26.05", "key-not-in-release"),
        (b"JobContainerType=job_container/tmpfs\nPrologFlags=Contain\n", "25.11", "plugin-not-in-release"),
        (b"TopologyPlugin=topology/flat\n", "24.11", "plugin-not-in-release"),
        (b"TopologyPlugin=topology/flat\n", "25.05", ""),
        (b"TopologyPlugin=topology/default\n", "26.05", ""),
        (b"DebugFlags=AuditTLS\n", "24.11", "bad-value"),
        (b"DebugFlags=AuditTLS\n", "25.05", ""),
        (b"PartitionName=x Nodes=cpu1 Exclusive=USER\n", "25.11", "key-not-in-release"),
        (b"PartitionName=x Nodes=cpu1 Exclusive=USER\n", "26.05", ""),
        (b"PowerAction=off Program=/bin/true Location=slurmd\n", "26.05", ""),
        (b"NodeName=e1 NodeAddr=10.0.3.1 RealMemory=1000 State=EXTERNAL\n", "24.11", "bad-value"),
        (b"NodeName=e1 NodeAddr=10.0.3.1 RealMemory=1000 State=EXTERNAL\n", "25.05", ""),
    ],
)  # fmt: skip
def test_what_a_release_knows(line: bytes, release: str, code: str) -> None:
    findings = lint_files({**FILES, "slurm.conf": FILES["slurm.conf"] + line}, release=release)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert codes(errors) == ({code} if code else set()), errors


def test_a_key_says_when_it_came_or_went() -> None:
    def said(line: bytes, release: str) -> str:
        findings = lint_files({**FILES, "slurm.conf": FILES["slurm.conf"] + line}, release=release)
        return findings[0].message

    assert "it came with 25.05" in said(b"PrologTimeout=60\n", "24.11")
    assert "20.11 was the last" in said(b"CacheGroups=1\n", "24.11")
    assert "did you mean cons_tres?" in said(b"SelectType=select/cons_res\n", "24.11")


def test_short_blocks_are_allowed_from_25_05_on() -> None:
    text = BASE["slurm.conf"] + "TopologyPlugin=topology/block\n"
    topology = (
        b"BlockName=b1 Nodes=gpu[1-4]\nBlockName=b2 Nodes=cpu[1-3]\nBlockName=b3 Nodes=cpu4\nBlockSizes=4\n"
    )
    files = {**FILES, "slurm.conf": text.encode(), "topology.conf": topology}
    old = [finding for finding in lint_files(files) if finding.code == "block-too-small"]
    new = [finding for finding in lint_files(files, release="25.05") if finding.code == "block-too-small"]
    assert {finding.severity for finding in old} == {Severity.ERROR}
    assert {finding.severity for finding in new} == {Severity.INFO}
    assert len(old) == len(new) == 2


YAML = """\
- topology: racks
  cluster_default: true
  block: {block_sizes: [4], blocks: [{block: b1, nodes: "gpu[1-4]"}, {block: b2, nodes: "cpu[1-4]"}]}
- topology: flat
  flat: true
"""


def with_yaml(text: str, *lines: str) -> dict[str, bytes]:
    slurm = BASE["slurm.conf"] + "".join(f"{line}\n" for line in lines)
    return {**FILES, "slurm.conf": slurm.encode(), "topology.yaml": text.encode()}


def test_topology_yaml_stands_above_topology_conf_from_25_05_on() -> None:
    files = with_yaml(YAML, "TopologyPlugin=topology/block")
    assert codes(lint_files(files)) == {"topology-file-missing", "topology-ignored"}
    [finding] = lint_files(files, release="25.05")
    assert (finding.code, finding.severity) == ("topology-ignored", Severity.INFO)
    both = lint_files({**with_yaml(YAML), "topology.conf": b"BlockName=b1 Nodes=gpu1\n"}, release="25.05")
    assert [(f.file, f.code) for f in both] == [("topology.conf", "topology-ignored")]


@pytest.mark.parametrize(
    ("text", "lines", "code"),
    [
        (YAML, ["PartitionName=p Nodes=cpu1 Topology=flat"], ""),
        (YAML, ["PartitionName=p Nodes=cpu1 Topology=flad"], "unknown-topology"),
        (YAML.replace("[4]", "[4, 6]"), [], "topology-yaml"),
        (YAML.replace("[4]", "[4, "), [], "topology-yaml"),
        (YAML.replace("block: b2", "block: b1"), [], "topology-yaml"),
        ("[]\n", [], "topology-yaml"),
    ],
)
def test_mistakes_in_topology_yaml(text: str, lines: list[str], code: str) -> None:
    errors = [f for f in lint_files(with_yaml(text, *lines), release="26.05") if f.severity is Severity.ERROR]
    assert codes(errors) == ({code} if code else set())


def test_what_only_a_host_can_tell() -> None:
    class Nowhere:
        def has_user(self, name: str) -> bool:
            return False

        def resolves(self, name: str) -> bool:
            return name != "10.0.2.3"

    found = lint_files(FILES, host=Nowhere())
    assert [finding.code for finding in found] == ["bad-value", "unresolvable-node"]
    assert "cpu3" in found[1].message


def test_a_file_alone_is_not_held_against_others(tmp_path: Path) -> None:
    folder(tmp_path, {**FILES, "nodes.conf": b"NodeName=n1 CPUs=2 RealMemory=10 Gres=gpu:2\n"})
    (tmp_path / "part.conf").write_text("PartitionName=p Nodes=elsewhere[1-9]\n")
    assert not lint_path(tmp_path / "slurm.conf")
    assert not lint_path(tmp_path / "gres.conf")
    assert not lint_path(tmp_path / "nodes.conf")
    assert not lint_path(tmp_path / "part.conf")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none of Slurm's files"):
        lint_path(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        lint_path(tmp_path / "missing.conf")
    with pytest.raises(InvalidInput, match=r"23\.02 is not known"):
        lint_files(FILES, release="23.02")


def test_every_code_is_documented_and_used() -> None:
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert documented == list(CODES)
    sources = "".join(p.read_text() for p in Path(DOCS.parents[1], "hpadmin/slurmconf/lint").glob("*.py"))
    unused = [code for code in CODES if sources.count(f'"{code}"') < 2]
    assert not unused


def test_every_finding_has_a_known_code_and_says_something() -> None:
    for case in [*CASES, *GOOD]:
        for release in ("24.11", "25.05", "25.11", "26.05"):
            for finding in lint_files(case.files, release=release):
                assert finding.code in CODES
                assert len(finding.message) > 15
                assert "\n" not in finding.message
                assert finding.line <= case.files.get(finding.file, b"").count(b"\n") + 1


_LINES = st.lists(
    st.sampled_from(
        [line for case in CASES for text in case.files.values() for line in text.splitlines(True)]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(
    slurm=st.one_of(st.binary(max_size=400), _LINES),
    gres=_LINES,
    topology=_LINES,
    release=st.sampled_from(["24.11", "26.05"]),
)
def test_no_input_breaks_the_lint(slurm: bytes, gres: bytes, topology: bytes, release: str) -> None:
    files = {"slurm.conf": slurm, "gres.conf": gres, "topology.conf": topology, "plugstack.conf": slurm}
    lint_files({**files, "cgroup.conf": gres, "slurmdbd.conf": slurm}, release=release)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_misspelt_key_is_found(data: st.DataObject) -> None:
    lines = BASE["slurm.conf"].splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    key = re.match(r"\w+", lines[index])
    assert key is not None
    position = data.draw(st.integers(1, key.end() - 1))
    lines[index] = lines[index][:position] + "q" + lines[index][position:]
    found = lint_files({**FILES, "slurm.conf": "\n".join(lines).encode()})
    assert ("slurm.conf", index + 1, "unknown-key") in [(f.file, f.line, f.code) for f in found]


def test_what_is_misspelt_in_every_line_is_guessed_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    suggestion = facts.suggestion

    def counted(word: str, candidates: Collection[str]) -> str | None:
        nonlocal compared
        compared += len(candidates)
        return suggestion(word, candidates)

    monkeypatch.setattr(facts, "suggestion", counted)
    nodes = "NodeName=n[1-4000] CPUs=8\n"
    partitions = "".join(f"PartitionName=p{i} Nodes=m{i}\n" for i in range(300))
    misspelt = "".join(f"SlurmdTimeut{i}=1\n" for i in range(300))
    head = BASE["slurm.conf"].partition("NodeName=")[0]
    found = lint_files({**FILES, "slurm.conf": f"{head}{misspelt}{nodes}{partitions}".encode()})
    by_code = [finding.code for finding in found]
    assert by_code.count("unknown-key") == 300
    assert by_code.count("unknown-node") >= 300
    assert "did you mean SlurmdTimeout?" in next(f.message for f in found if f.code == "unknown-key")
    assert compared <= 100_000


@pytest.mark.parametrize("circle", [False, True])
def test_a_long_chain_of_switches_is_followed(circle: bool) -> None:
    count = 3000
    first = f"SwitchName=s0 Switches=s{count - 1}\n" if circle else "SwitchName=s0 Nodes=n[1-4]\n"
    chain = "".join(f"SwitchName=s{i} Switches=s{i - 1}\n" for i in range(1, count))
    head = BASE["slurm.conf"].partition("NodeName=")[0]
    slurm = (
        f"{head}TopologyPlugin=topology/tree\nNodeName=n[1-4] CPUs=8\nPartitionName=p Nodes=ALL Default=YES\n"
    )
    files = {**FILES, "slurm.conf": slurm.encode(), "topology.conf": (chain + first).encode()}
    found = codes(lint_files({name: content for name, content in files.items() if name != "gres.conf"}))
    assert ("switch-circle" in found) == circle
    assert "no-root-switch" not in found


def test_work_grows_no_faster_than_the_file() -> None:
    """One line a node, blocks of twenty, GPUs. (16,000 nodes take four seconds of a 2.5 GHz core.) Counted are lines
    of Python and calls into C: they are the same each time, whatever the machine has to do besides."""

    def work(count: int) -> int:
        rng = random.Random(1)
        nodes = "".join(
            f"NodeName=n{i} NodeAddr=10.{i >> 16}.{i >> 8 & 255}.{i & 255} CPUs=8 RealMemory={rng.randint(1, 9)}000"
            " Gres=gpu:h100:2\n"
            for i in range(count)
        )
        head = BASE["slurm.conf"].partition("NodeName=")[0]
        slurm = f"{head}TopologyPlugin=topology/block\n{nodes}PartitionName=dev Nodes=ALL Default=YES\n"
        topology = "".join(f"BlockName=b{i} Nodes=n[{i}-{i + 19}]\n" for i in range(0, count, 20))
        gres = f"NodeName=n[0-{count - 1}] Name=gpu Type=h100 File=/dev/nvidia[0-1]\n"
        files = {
            **FILES,
            "slurm.conf": slurm.encode(),
            "topology.conf": (topology + "BlockSizes=20\n").encode(),
            "gres.conf": gres.encode(),
        }
        with counted() as steps:
            assert not lint_files(files)
        return steps()

    small, large = work(200), work(1600)
    assert large < 8 * small * 1.2
