"""An srun with the option, one without, and one that knows no plugin behave alike, as long as nothing fails."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpadmin.slurm.hostlist import expand
from tests.slurm.resume.cluster import HOME, Cluster

pytestmark = pytest.mark.slurm

LIMIT = 150
"""Seconds for one case."""
BACKGROUND = "; wait $!"
READY = "while [ ! -s step ]; do sleep 0.05; done; "
SLEEPER = "srun OPTION -N1 -n1 bash -c 'echo $SLURM_STEP_ID >step; sleep %g' & " + READY
TRAPPED = (
    'srun OPTION -N1 -n1 bash -c \'trap "echo got it; exit 9" USR1; echo $SLURM_STEP_ID >step; '
    "while :; do sleep 0.1; done' & " + READY
)
AT_TERMINAL = "python3 ../../terminal.py "
CASES = {
    "success": "srun OPTION -N2 true",
    "an exit code": "srun OPTION -N1 bash -c 'exit 7'",
    "the largest exit code": "srun OPTION -N2 bash -c 'exit $((SLURM_PROCID * 249 + 6))'",
    "a task that kills itself": "srun OPTION -N1 bash -c 'kill -9 $$'",
    "no program": "srun OPTION -N1 -n1 /no/such/program",
    "an unknown option": "srun OPTION -N1 --no-such-option true",
    "more nodes than there are": "srun OPTION -N9 true",
    "version": "srun OPTION --version",
    "usage": "srun OPTION --usage",
    "environment": "srun OPTION -N1 -n1 bash -c 'unset SLURM_CONF; compgen -e'",
    "limits, signals, folder": "srun OPTION -N1 -n1 bash -c 'ulimit -a; umask; nice; grep -v Q /proc/self/status"
    " | grep ^Sig; basename $PWD'",
    "stdin: a pipe": "seq 5 | srun OPTION -N1 -n1 cat",
    "stdin: a file": "srun OPTION -N1 -n1 cat < /etc/hostname",
    "stdin: nothing": "srun OPTION -N2 -n2 cat < /dev/null",
    "stdin: by option": "srun OPTION -N1 -n1 --input=/etc/hostname cat",
    "stdin: none by option": "srun OPTION -N1 -n1 --input=none cat",
    "stdin: what follows in a script": "bash <<< $'srun OPTION -N1 -n1 --input=none true\\necho still read'",
    "stdout: a file for each task": "srun OPTION -N2 --output=out-%t --error=err-%t bash -c 'echo out; echo err >&2'"
    "; grep . out-* err-*",
    "stdout: labelled": "srun OPTION -N2 -n4 -l bash -c 'echo $SLURM_PROCID' | sort",
    "stdout: closed by its reader": "srun OPTION -N1 -n1 bash -c 'echo first; sleep 0.5; echo second' | head -n 1",
    "several programs": "printf '0 echo zero %%t\\n1 false\\n' >programs; srun OPTION -N2 -n2 -l --multi-prog programs",
    # srun may or may not stay to hear of the task that it ended, whose end then counts as well.
    "killed on a bad exit": "srun OPTION -N2 --kill-on-bad-exit=1 bash -c '[ $SLURM_PROCID = 0 ] && exit 6; sleep 60'"
    "; s=$?; [ $s = 6 ] || [ $s = 143 ] || [ $s = 137 ] || exit $s; echo one and all",
    "not killed on a bad exit": "srun OPTION -N2 -K0 bash -c '[ $SLURM_PROCID = 0 ] && exit 6; sleep 1; echo went on'",
    "a step's name": "srun OPTION -N1 -n1 -J some-name bash -c 'squeue -h -s -j $SLURM_JOB_ID -o %j | grep some'",
    "several at once": "srun OPTION -N1 -n1 true & srun OPTION -N1 -n1 bash -c 'exit 4' & wait -n; a=$?; wait -n; "
    "echo $((a + $?))",
    "one inside another": "srun OPTION -n1 -N1 bash -c 'srun --overlap -n1 -N1 echo nested'",
    "a signal by scancel": TRAPPED + "scancel -s USR1 $SLURM_JOB_ID.$(cat step)" + BACKGROUND,
    "a step ended by scancel": SLEEPER % 60 + "scancel $SLURM_JOB_ID.$(cat step)" + BACKGROUND,
    "SIGUSR1": TRAPPED + "kill -USR1 $!" + BACKGROUND,
    "SIGTERM": SLEEPER % 60 + "kill -TERM $!" + BACKGROUND,
    "SIGHUP": SLEEPER % 60 + "kill -HUP $!" + BACKGROUND,
    "SIGQUIT": SLEEPER % 60 + "kill -QUIT $!" + BACKGROUND,
    "SIGPIPE": SLEEPER % 60 + "kill -PIPE $!" + BACKGROUND,
    "SIGALRM": SLEEPER % 1 + "kill -ALRM $!" + BACKGROUND,
    "SIGCONT": SLEEPER % 1 + "kill -CONT $!" + BACKGROUND,
    "SIGINT once": SLEEPER % 1.5 + "kill -INT $!" + BACKGROUND,
    "SIGINT twice": SLEEPER % 60 + "while kill -INT $! 2>/dev/null; do sleep 0.2; done" + BACKGROUND,
    "a terminal": AT_TERMINAL
    + "'srun OPTION -N1 --pty bash -c \"tty >/dev/null && echo a terminal; read x; echo got \\$x; read x; exit 5\"'"
    " 'expect a terminal' 'send word\\r' 'expect got word' 'send \\r'",
    "a terminal's Ctrl-C inside": AT_TERMINAL
    + '\'srun OPTION -N1 --pty bash -c "trap \\"echo caught; read x; exit 3\\" INT; echo ready; while :; do sleep 0.1;'
    " done\"' 'expect ready' 'send \\x03' 'expect caught' 'send \\r'",
    "Ctrl-C once": AT_TERMINAL
    + "'srun OPTION -N1 -n1 bash -c \"echo ready; read x; echo still; read x; exit 2\"' 'expect ready' 'send \\x03'"
    " 'expect interrupt (one more within 1 sec to abort)' 'expect task 0: ' 'send \\r' 'expect still'"
    " 'send \\r'",
    "Ctrl-C twice": AT_TERMINAL
    + "'srun OPTION -N1 -n1 bash -c \"echo ready; sleep 60\"' 'expect ready' 'send \\x03'"
    " 'insist forcing job termination'",
}
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "with": ("--auto-resume=1", {}),
    "without": ("", {}),
    "no plugin": ("", {"SLURM_CONF": "/etc/plain/slurm.conf"}),
}
PLAIN = """
mkdir -p /etc/plain && cp /etc/slurm/gres.conf /etc/slurm/cgroup.conf /etc/plain && : >/etc/plain/plugstack.conf
sed 's|^PlugStackConfig=.*|PlugStackConfig=/etc/plain/plugstack.conf|' /etc/slurm/slurm.conf >/etc/plain/slurm.conf
chmod -R a+rX /etc/plain
"""


@dataclass(frozen=True)
class Seen:
    """What one command did."""

    status: str
    out: list[str]
    err: list[str]


def script(option: str, folder: str) -> str:
    """A script that runs every case in a folder of its own and keeps what it said and how it ended."""
    lines = ["set +m"]
    for index, command in enumerate(CASES.values()):
        lines.append(f"mkdir -p {folder}/{index} && cd {HOME}/{folder}/{index} || exit 1")
        # A shell of its own: what one case leaves in the background is no other's.
        lines.append("cat >case.sh <<'END'\n" + command.replace("OPTION", option) + "\nEND")
        lines.append(f"timeout -k 1 {LIMIT} bash case.sh >out 2>err; echo $? >status; cd {HOME}")
    return "\n".join(lines)


TIMING = re.compile(
    r"Job step aborted: Waiting up to|aborted before step completely launched|task 0: Interrupt$"
    r"|^srun: Force Terminated|task 1: (?:Terminated|Killed)$|^User defined signal|job abort in progress"
    r"|^srun: Step creat|^slurmstepd-|^case\.sh: "
)
"""What Slurm says or not, as it happens to be quick, and what the shell says of it."""


def read(text: str, job: str, nodes: list[str]) -> list[str]:
    """The lines of an output without the supervisor's, and without what differs between any two jobs."""
    for name in nodes:  # of sruns that start at once either gets the first
        text = re.sub(rf"\b{name}\b", "NODE", text)
    text = re.sub(rf"\b{job}\.(\d+)", "JOB.STEP", text)
    # srun may hear of a task's first words before it hears that it was started.
    text = text.replace("task 0: unknown", "task 0: running")
    return sorted(
        {
            line
            for line in text.splitlines()
            if not line.startswith("[Auto Resume] ") and not TIMING.search(line)
        }
    )


def collect(slurm: Cluster, name: str) -> dict[str, Seen]:
    """Run all cases of one variant in an allocation of their own."""
    option, environment = VARIANTS[name]
    folder = name.replace(" ", "-")
    slurm.root.put(f"{HOME}/{folder}.sh", script(option, folder), mode=0o755)
    told = f'echo "$SLURM_JOB_ID $SLURM_JOB_NODELIST" >{folder}.job; exec bash {folder}.sh'
    settings = [f"{key}={value}" for key, value in environment.items()]
    slurm.as_user("env", *settings, "salloc", "-Q", "-N2", "bash", "-c", told, timeout=1800).check()
    job, nodes = slurm.sh(f"cat {HOME}/{folder}.job").stdout.split()
    gathered = slurm.sh(
        f"cd {HOME}/{folder} && for i in $(seq 0 {len(CASES) - 1}); do for f in status out err; do "
        "printf '\\1%s' \"$(cat $i/$f)\"; done; done"
    ).stdout.split("\1")[1:]
    taken = iter(gathered)
    return {
        case: Seen(status.strip(), read(out, job, expand(nodes)), read(err, job, expand(nodes)))
        for case, status, out, err in zip(CASES, taken, taken, taken, strict=True)
    }


@pytest.fixture(scope="module")
def seen(shared_cluster: Cluster) -> Mapping[str, Mapping[str, Seen]]:
    """All cases in all variants, which run side by side."""
    shared_cluster.heal()
    shared_cluster.sh(PLAIN).check()
    helper = Path(__file__).with_name("terminal.py").read_text()
    shared_cluster.root.put(f"{HOME}/terminal.py", helper)
    with ThreadPoolExecutor(len(VARIANTS)) as pool:
        return dict(
            zip(VARIANTS, pool.map(lambda name: collect(shared_cluster, name), VARIANTS), strict=True)
        )


@pytest.mark.parametrize("case", CASES)
def test_an_srun_with_the_option_behaves_as_one_without(
    seen: Mapping[str, Mapping[str, Seen]], case: str
) -> None:
    expected, got = seen["without"][case], seen["with"][case]
    if case == "environment":
        ours = ["HPADMIN_RESUME_COUNT"]
        got = Seen(got.status, [line for line in got.out if line not in ours], got.err)
    assert got == expected


@pytest.mark.parametrize("case", CASES)
def test_an_srun_without_the_option_knows_nothing_of_the_plugin(
    seen: Mapping[str, Mapping[str, Seen]], case: str
) -> None:
    assert seen["without"][case] == seen["no plugin"][case]


def test_the_cases_do_what_they_say(seen: Mapping[str, Mapping[str, Seen]]) -> None:
    plain = seen["no plugin"]
    assert {case: plain[case].status for case in ("success", "an exit code", "a task that kills itself")} == {
        "success": "0",
        "an exit code": "7",
        "a task that kills itself": "137",
    }
    assert "got it" in plain["a signal by scancel"].out
    assert plain["a terminal"].out[-1] == "ended: 5"
    assert "ended: 2" in plain["Ctrl-C once"].out
    assert "came: forcing job termination" in plain["Ctrl-C twice"].out


def test_steps_over_components_of_a_heterogeneous_job_run_without_it_and_say_so(slurm: Cluster) -> None:
    body = "for o in --auto-resume=1 --auto-resume=0; do srun $o --het-group=0,1 bash -c 'exit 3'; echo exit $?; done"
    done = slurm.as_user("salloc", "-Q", "-N1", ":", "-N1", "bash", "-c", body, timeout=120)
    assert done.stdout.splitlines() == ["exit 3", "exit 3"]
    assert done.stderr.count("Auto Resume cannot swap nodes of a heterogeneous job") == 1


def test_steps_inherit_the_option_of_their_allocation(slurm: Cluster) -> None:
    body = "\n".join(
        f"srun {option} -N1 -n1 bash -c 'echo ${{HPADMIN_RESUME_COUNT-off}}'"
        for option in ("", "--auto-resume=0")
    )
    job = slurm.submit("inherit", body + "\necho done", "--auto-resume=1", "-N1")
    assert slurm.wait_output("inherit", "done\n").splitlines() == ["0", "off", "done"]
    slurm.wait_state(job, "COMPLETED")
    done = slurm.as_user("salloc", "-Q", "--auto-resume=1", "-N1", "bash", "-c", body, timeout=240).check()
    assert done.stdout.splitlines() == ["0", "off"]
