"""What an srun's command line says about its nodes, read as srun's own getopt would; pure.

>>> given = parse(["srun", "-N4", "--exclusive", "-w", "n[1-4]", "train", "-w", "9"])
>>> given.nodes, given.pinned, given.command
('4', True, 5)
>>> without_pins(["srun", "-N4", "-w", "n[1-4]", "train", "-w", "9"])
['srun', '-N4', 'train', '-w', '9']

The tables are those of src/common/slurm_opt.c, 24.11 to 26.05, and of pyxis. Options of other SPANK plugins are
unknown here; like most of them they are taken to carry their argument behind an equals sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_WITH_ARGUMENT_TEXT = """
accel-bind account acctg-freq auto-resume auto-resume-heartbeat auto-resume-spares bb bbf bcast-exclude
begin chdir cluster cluster-constraint clusters comment constraint container container-id container-type
context core-spec cores-per-socket cpu-bind cpu-freq cpu_bind cpus-per-gpu cpus-per-task deadline
delay-boot dependency distribution epilog error exclude export extra extra-node-info gpu-bind gpu-freq
gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags het-group hint ignore-signals input
job-name jobid licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mem-update
mincpus mpi msg-timeout network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu
ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode output pack-group partition prefer priority
profile prolog qos relative reservation resources segment signal slurmd-debug sockets-per-node switches
task-epilog task-prolog tasks-per-node thread-spec threads threads-per-core time time-min tmp treewidth
tres-bind tres-per-task wait wckey
container-env container-image container-mounts container-name container-save container-workdir
"""
_WITHOUT_TEXT = """
bcast compress contiguous debugger-test disable-status exact exclusive external-launcher help hold
immediate interactive kill-on-bad-exit label multi-prog nice no-allocate no-kill oom-kill-step overcommit
overlap oversubscribe preserve-env propagate pty quiet quit-on-interrupt reboot resv-ports send-libs
spread-job stepmgr test-only unbuffered usage use-min-nodes verbose version whole x11
container-entrypoint container-entrypoint-log container-mount-home container-readonly container-remap-root
container-writable no-container-entrypoint no-container-mount-home no-container-remap-root
"""
"""Options without an argument, or whose optional one stands behind an equals sign."""

_SHORT_TEXT = """
A=account B=extra-node-info C=constraint D=chdir F=nodefile G=gpus J=job-name L=licenses M=clusters N=nodes
S=core-spec T=threads W=wait b=begin c=cpus-per-task d=dependency e=error i=input m=distribution n=ntasks
o=output p=partition q=qos r=relative t=time w=nodelist x=exclude
"""
_WITH_ARGUMENT = frozenset(_WITH_ARGUMENT_TEXT.split())
_WITHOUT = frozenset(_WITHOUT_TEXT.split())
_SHORT_WITH_ARGUMENT = {word[0]: word[2:] for word in _SHORT_TEXT.split()}
_SHORT_OPTIONAL = frozenset("IKk")
"""Short options that take the rest of their word as argument, if there is any."""

_PINS = frozenset({"nodelist", "nodefile", "relative"})
"""Options that name particular nodes: they cannot be kept once one of those is gone."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line of an srun says. Of several components (``:``) only the first is described."""

    nodes: str | None
    """Argument of ``-N``; None where it is not given."""
    pinned: bool
    """It names nodes by ``--nodelist``, ``--nodefile`` or ``--relative``."""
    jobid: bool
    """It names the allocation by ``--jobid``."""
    heterogeneous: bool
    """It has several components, or chooses some by ``--het-group``."""
    interactive: bool
    """It starts the shell of salloc under ``use_interactive_step``: no step that anybody would start again."""
    output: str | None
    """Argument of ``-o``; None where it is not given."""
    command: int
    """Index of the first word that is no option: the program."""


def parse(argv: Sequence[str]) -> Given:
    """Read an srun's command line, its own name first."""
    found: dict[str, str] = {}
    end = 1
    for name, value, _, stop in _options(argv):
        found[name] = value
        end = stop
    if end < len(argv) and argv[end] == "--":
        end += 1
    return Given(
        nodes=found.get("nodes"),
        pinned=bool(_PINS & found.keys()),
        jobid="jobid" in found,
        heterogeneous=":" in argv[end:] or bool({"het-group", "pack-group"} & found.keys()),
        interactive="interactive" in found,
        output=found.get("output"),
        command=end,
    )


def interrupts_at_once(argv: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Tell whether a single SIGINT to srun reaches the tasks, where ordinarily it takes a second one to end them.

    >>> interrupts_at_once(["srun", "-lX", "train"], {}), interrupts_at_once(["srun", "train", "-X"], {})
    (True, False)
    """
    if "SLURM_DISABLE_STATUS" in environment:
        return True
    return any(
        name in ("quit-on-interrupt", "disable-status") or _holds_flag(argv[start], "X")
        for name, _, start, _ in _options(argv)
    )


def _holds_flag(word: str, flags: str) -> bool:
    """Tell whether a word of short options holds one of `flags`, before the first that takes an argument."""
    if word.startswith("--"):
        return False
    for letter in word[1:]:
        if letter in flags:
            return True
        if letter in _SHORT_WITH_ARGUMENT or letter in _SHORT_OPTIONAL:
            return False
    return False


def without_pins(argv: Sequence[str]) -> list[str]:
    """Return the command line without the options that name particular nodes.

    >>> without_pins(["srun", "-vlw", "n1", "train"])
    ['srun', '-vl', 'train']
    """
    kept = list(argv)
    for name, _, start, stop in reversed(list(_options(argv))):
        if name in _PINS:
            word = argv[start]
            flags = "" if word.startswith("--") else word[: _argument(word)]
            kept[start:stop] = [flags] if len(flags) > 1 else []
    return kept


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str, int, int]]:
    """Yield name, argument, and the range of words of each option that can be taken out by itself."""
    at = 1
    while at < len(argv):
        word = argv[at]
        if word == "--" or not word.startswith("-") or word == "-":
            return
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = _full_name(name)
            stop = at + 1
            if not equals and name in _WITH_ARGUMENT:
                value = argv[stop] if stop < len(argv) else ""
                stop += 1
        else:
            name, value, stop = _short(argv, at)
        yield name, value, at, min(stop, len(argv))
        at = stop


def _short(argv: Sequence[str], at: int) -> tuple[str, str, int]:
    """Read a word of short options: the last of them that takes an argument names it."""
    word = argv[at]
    position = _argument(word)
    if position == len(word):
        return word[1:2], "", at + 1
    name = _SHORT_WITH_ARGUMENT[word[position]]
    if position + 1 < len(word):
        return name, word[position + 1 :], at + 1
    return name, argv[at + 1] if at + 1 < len(argv) else "", at + 2


def _argument(word: str) -> int:
    """Return where in a word of short options the one stands that takes an argument; its length where none does."""
    for position, letter in enumerate(word[1:], 1):
        if letter in _SHORT_WITH_ARGUMENT:
            return position
        if letter in _SHORT_OPTIONAL:
            break
    return len(word)


def _full_name(name: str) -> str:
    """Complete an abbreviation as getopt_long(3) does: it must be the beginning of one name only."""
    every = _WITH_ARGUMENT | _WITHOUT
    if name in every:
        return name
    meant = [long for long in every if long.startswith(name)]
    return meant[0] if len(meant) == 1 else name
