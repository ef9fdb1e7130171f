"""The sandbox's pure parts: what is sent to the host, and what is made of slurmctld's answer."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.slurm import sandbox
from hpadmin.slurm.command import Completed
from hpadmin.slurm.sandbox import Severity
from hpadmin.slurm.sandbox_host import OWN_ADDRESS
from hpadmin.slurm.sandbox_order import ELSEWHERE, Order, prepare, with_includes
from hpadmin.slurmconf import loads

CONF = b"""\
ClusterName=c
SlurmctldHost=head1.example.com(10.0.0.1)
SlurmctldHost=head2(10.0.0.2)
SlurmUser=slurm
StateSaveLocation=/var/spool/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmSchedLogFile=/var/log/sched.log
EpilogSlurmctld=/usr/sbin/epilog \\
# and no more
PrologSlurmctld=/usr/sbin/prolog
MailProg="/usr/bin/mail" # to people
SuspendProgram=/usr/sbin/off
JobCompType=jobcomp/filetxt
NodeName=n[1-2] NodeAddr=10.0.1.[1-2]
NodeName=m[1-2] NodeHostname=host[1-2]
PartitionName=p Nodes=n[1-2]"""


def prepared(text: bytes = CONF, *, state: str | None = None, **files: bytes) -> Order:
    everything = {"slurm.conf": text, **{name.replace("_", "."): content for name, content in files.items()}}
    return prepare(everything, folder="/tmp/x", state=state, overrides={})


def settings(order: Order) -> dict[str, str]:
    return {s.key: s.value for s in loads(order.files["slurm.conf"]).statements if s.key}


def test_nothing_of_the_real_controller_is_touched() -> None:
    seen = settings(prepared())
    assert seen["StateSaveLocation"] == "/tmp/x/state"
    assert seen["SlurmctldPidFile"] == "/tmp/x/slurmctld.pid"
    assert seen["SlurmSchedLogFile"] == "/tmp/x/sched.log"
    assert seen["MailProg"] == seen["SuspendProgram"] == "/bin/true"
    assert not seen.keys() & {"SlurmctldLogFile", "EpilogSlurmctld", "PrologSlurmctld", "JobCompType"}


def test_lines_keep_their_numbers() -> None:
    text = prepared().files["slurm.conf"]
    before = {line: s.raw for line, s in loads(CONF).numbered() if s.key in ("MailProg", "NodeName")}
    after = {line: s.key for line, s in loads(text).numbered()}
    assert all(after[line] in raw for line, raw in before.items())


def test_it_is_the_first_controller_and_all_other_names_lead_nowhere() -> None:
    order = prepared()
    assert order.hostname == "head1.example.com"
    assert order.addresses == ("10.0.0.1",)
    assert order.hosts["head1.example.com"] == OWN_ADDRESS
    assert {order.hosts[name] for name in ("head2", "n1", "n2", "host1", "m2")} == {ELSEWHERE}
    assert "10.0.1.1" not in order.hosts
    assert order.user == "slurm"


@pytest.mark.parametrize(
    ("value", "hostname"), [("localhost", "sandbox"), ("h(h.example.com)", "h"), ("h\\#x", "h#x")]
)
def test_any_controller_name(value: str, hostname: str) -> None:
    assert prepared(f"SlurmctldHost={value}\n".encode()).hostname == hostname


def test_hosts_hold_names_only() -> None:
    order = prepared(b'SlurmctldHost=h\nAccountingStorageHost="db\\ 1.2.3.4 evil"\nNodeName=n1\n')
    assert not [name for name in order.hosts if re.search(r"\s", name)]


DATABASE = b"""\
SlurmctldHost=h
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageEnforce=limits
AccountingStorageTRES=gres/gpu
NodeName=n1 CPUs=4 TRESWeights="CPU=1,GRES/gpu=2" RealMemory=10
PartitionName=p Nodes=n1 TRESBillingWeights=GRES/gpu=1.0
"""


def test_without_state_nothing_is_asked_of_slurmdbd() -> None:
    order = prepared(DATABASE)
    assert order.alone
    assert not [key for key in settings(order) if key.startswith("Accounting")]
    assert b"gpu" not in order.files["slurm.conf"]
    assert b"RealMemory=10" in order.files["slurm.conf"]


def test_with_state_slurmctld_knows_what_slurmdbd_said() -> None:
    order = prepared(DATABASE, state="/var/spool/slurmctld")
    assert not order.alone
    assert order.files["slurm.conf"].startswith(DATABASE)


def test_a_plugin_that_does_not_exist_is_left_for_slurm_to_refuse() -> None:
    assert (
        settings(prepared(b"SlurmctldHost=h\nJobCompType=jobcomp/fletxt\n"))["JobCompType"]
        == "jobcomp/fletxt"
    )


def test_overrides_replace_and_includes_are_tamed_too() -> None:
    files = {"slurm.conf": b"SlurmctldHost=h\nAuthType=auth/munge\nInclude more.conf\n"}
    files["more.conf"] = b"PrologSlurmctld=/x\nauthtype=auth/none\nKillWait=3\n"
    files["gres.conf"] = b"PrologSlurmctld=/x\n"
    order = prepare(files, folder="/tmp/x", state=None, overrides={"AuthType": "auth/slurm"})
    assert settings(order)["AuthType"] == "auth/slurm"
    assert order.files["more.conf"] == b"#\n#\nKillWait=3\n"
    assert order.files["gres.conf"] == files["gres.conf"]


@dataclass
class Scripted:
    """A runner that has some files, and a host whose answer is given."""

    files: Mapping[str, str] = field(default_factory=dict)
    answer: Completed | None = None
    first: Completed | None = None
    sent: list[str] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        if argv[0] == "cat":
            text = self.files.get(argv[-1])
            return Completed(tuple(argv), 1 if text is None else 0, text or "", "")
        assert argv[0] == "unshare"
        assert stdin is not None
        self.sent.append(stdin)
        answer, self.first = self.first or self.answer, None
        assert answer is not None
        return answer


def test_absolute_includes_are_made_relative() -> None:
    files = {
        "slurm.conf": b"Include /etc/slurm/nodes.conf\nInclude /srv/p.conf\nInclude /srv/gone.conf\nInclude x*\n",
        "nodes.conf": b"NodeName=n1\n",
    }
    found = with_includes(Scripted({"/srv/p.conf": "PartitionName=p\n"}), files, "/etc/slurm")
    assert found["slurm.conf"] == (
        b"Include nodes.conf\nInclude included/srv_p.conf\nInclude /srv/gone.conf\nInclude x*\n"
    )
    assert found["included/srv_p.conf"] == b"PartitionName=p\n"


def test_relative_includes_are_looked_for_beside_unless_they_go() -> None:
    runner = Scripted({"/etc/slurm/a.conf": "KillWait=1\n", "/etc/slurm/b.conf": "KillWait=2\n"})
    files = {"slurm.conf": b"Include a.conf\nInclude b.conf\n"}
    found = with_includes(runner, files, "/etc/slurm", beside=True, absent=("b.conf",))
    assert found.keys() == {"slurm.conf", "a.conf"}


def test_no_file_of_the_copy_lies_outside_of_it() -> None:
    files = {
        "slurm.conf": b"Include /srv/a.conf\nInclude ../b.conf\nInclude x/../../c.conf\nInclude ../slurm/d.conf\n",
        "/srv/a.conf": b"KillWait=1\n",
        "../b.conf": b"KillWait=2\n",
        "x/../../c.conf": b"KillWait=3\n",
        "d.conf": b"KillWait=4\n",
        "gres.conf": b"Include ../g.conf\n",
        "../g.conf": b"AutoDetect=off\n",
    }
    found = with_includes(Scripted(), files, "/etc/slurm", beside=True)
    assert all(not name.startswith("/") and ".." not in name for name in found)
    included = [line.split()[1] for line in found["slurm.conf"].decode().splitlines()]
    assert [found[name] for name in included] == [b"KillWait=%d\n" % number for number in (1, 2, 3, 4)]
    assert found[found["gres.conf"].decode().split()[1]] == b"AutoDetect=off\n"
    assert found.keys() >= {"slurm.conf", "gres.conf", "d.conf"}


def test_what_goes_is_left_out_of_the_copy_alone() -> None:
    runner = Scripted(answer=outcome("slurmctld: Running as primary controller"))
    sandbox.check(
        runner, {"slurm.conf": b"ClusterName=c\nSlurmctldHost=h\n"}, absent=("/srv/a.conf", "b.conf")
    )
    call = runner.sent[0].rsplit("\nmain(", 1)[1]
    order = json.loads(ast.literal_eval(call.removeprefix("json.loads(").removesuffix("))\n")))
    assert order["absent"] == ["included/srv_a.conf", "b.conf"]


def outcome(*lines: str, primary: bool = True) -> Completed:
    answer = {"lines": list(lines), "primary": primary, "ended": True, "returncode": 0, "seconds": 0.1}
    answer["needs_database"] = False
    return Completed((), 0, json.dumps(answer), "")


def test_the_order_reaches_the_host_whole() -> None:
    runner = Scripted(answer=outcome("slurmctld: Running as primary controller"))
    hostile = b"ClusterName=\"'; __import__('os').abort() #\\'\nSlurmctldHost=h\n\xff\x00"
    verdict = sandbox.check(runner, {"slurm.conf": hostile, "slurm.key": bytes(range(256))})
    assert verdict.accepted
    [text] = runner.sent
    call = text.rsplit("\nmain(", 1)[1]
    payload = re.fullmatch(r"json\.loads\((.*)\)\)\n", call)
    assert payload is not None
    order = json.loads(ast.literal_eval(payload[1]))
    assert base64.b64decode(order["files"]["slurm.key"]) == bytes(range(256))
    assert base64.b64decode(order["files"]["slurm.conf"]).startswith(hostile)
    assert order["secret"] == ["slurm.key"]


def test_what_slurmctld_says_is_read() -> None:
    runner = Scripted()

    def judged(*lines: str, primary: bool = True) -> sandbox.Verdict:
        runner.answer = outcome(*lines, primary=primary)
        return sandbox.check(runner, {"slurm.conf": CONF})

    folder = "/tmp/hpadmin-sandbox-0/conf"
    died = judged(
        "slurmctld: error: Could not open job state file /x/job_state: No such file or directory",
        "slurmctld: error: High latency for 1000 calls to gettimeofday(): 746 microseconds",
        'slurmctld: error: Parse error in file slurm.conf line 17: " x"',
        "slurmctld: fatal: Unable to process configuration file",
        primary=False,
    )
    assert not died.accepted
    assert [(m.severity, m.file, m.line) for m in died.messages] == [
        (Severity.ERROR, "slurm.conf", 17),
        (Severity.FATAL, "", 0),
    ]
    late = judged(
        "slurmctld: Running as primary controller", "slurmctld: fatal: failed to initialize mcs plugin"
    )
    assert not late.accepted
    waiting = judged(
        f"slurmctld: error: s_p_parse_file: cannot stat file {folder}/topology.conf: No such file or directory, "
        "retrying in 1sec up to 60sec",
        primary=False,
    )
    assert waiting.said(Severity.FATAL)
    doomed = judged(
        "slurmctld: error: Invalid nodes (n[1-2]) for JobId=7",
        "slurmctld: error: Invalid partition (p) for JobId=9",
        "slurmctld: error: Aborting JobId=8 due to change in socket/core configuration of allocated nodes",
        "slurmctld: error: Invalid nodes (n[1-2]) for JobId=7",
        "slurmctld: error: Invalid nodes (n[1-2]) for JobId=10_3(12)",
        "slurmctld: error: Invalid nodes (n[1-2]) for JobId=10+1(11)",
        "slurmctld: Running as primary controller",
    )
    assert [job.job_id for job in doomed.jobs] == [7, 8, 9, 11, 12]
    assert len(doomed.said(Severity.ERROR)) == 5


def test_failures_say_what_to_do() -> None:
    runner = Scripted(answer=Completed((), 1, "", "unshare: unshare failed: Operation not permitted\n"))
    with pytest.raises(OperationFailed, match="Operation not permitted") as raised:
        sandbox.check(runner, {"slurm.conf": CONF})
    assert "SYS_ADMIN" in raised.value.hint
    stuck = {
        "needs_database": False,
        "lines": [],
        "primary": False,
        "ended": False,
        "returncode": -9,
        "seconds": 60,
    }
    runner.answer = Completed((), 0, json.dumps(stuck), "")
    with pytest.raises(OperationFailed, match="neither started nor ended"):
        sandbox.check(runner, {"slurm.conf": CONF})
    with pytest.raises(InvalidInput, match=r"no slurm\.conf"):
        sandbox.check(runner, {"gres.conf": b""})


def test_where_the_state_lacks_what_slurmdbd_knows_it_is_taken_out() -> None:
    waits = {"lines": [], "primary": False, "ended": False, "needs_database": True, "seconds": 2}
    runner = Scripted(
        first=Completed((), 0, json.dumps(waits), ""),
        answer=outcome("slurmctld: Running as primary controller"),
    )
    assert sandbox.check(runner, {"slurm.conf": DATABASE}, state="/var/spool/slurmctld").accepted
    with_database, without = [
        base64.b64decode(
            json.loads(ast.literal_eval(sent.rsplit("main(json.loads(", 1)[1][:-3]))["files"]["slurm.conf"]
        )
        for sent in runner.sent
    ]
    assert b"slurmdbd" in with_database
    assert b"slurmdbd" not in without


def test_lines_of_26_05_begin_with_the_time() -> None:
    verdict = sandbox.judge(
        [
            "[2026-11-22T15:50:21.347] slurmctld version 26.05.5 started on cluster c(1)",
            '[2026-11-22T15:50:21.411] error: _find_node_record: lookup failure for node "n9"',
            "[2026-11-22T15:50:21.411] fatal: Invalid node names in partition q",
        ],
        Order("/tmp/x", {}, "c", {}, (), "root", None, alone=True),
        primary=False,
        seconds=0.1,
    )
    assert [message.text for message in verdict.said(Severity.FATAL)] == ["Invalid node names in partition q"]
