"""Command lines of srun, read as srun reads them."""

from __future__ import annotations

import shlex

import pytest

from hpadmin.recovery.resume.srunargs import interrupts_at_once, parse, without_pins


@pytest.mark.parametrize(
    ("line", "nodes", "pinned", "program"),
    [
        ("srun train.py", None, False, "train.py"),
        ("srun -N4 train.py", "4", False, "train.py"),
        ("srun -N 4 -w n[1-4] train.py", "4", True, "train.py"),
        ("srun --nodes=2-4 --nodelist n[1-4] train.py", "2-4", True, "train.py"),
        ("srun --node=2 train.py", None, False, "train.py"),  # nodes, nodelist, nodefile: ambiguous
        ("srun --nodel=n1 train.py", None, True, "train.py"),
        ("srun --auto-resume=1 -lN2 train.py -w x", "2", False, "train.py"),
        ("srun --auto-resume 1 -N2 -- train.py", "2", False, "train.py"),
        ("srun -K1 -k --pty --exclusive bash", None, False, "bash"),
        ("srun -I5 --mpi pmix -n 8 ./a.out", None, False, "./a.out"),
        ("srun -r 1 hostname", None, True, "hostname"),
        ("srun -F nodes.txt hostname", None, True, "hostname"),
        ("srun -q high -N2 -w n1 hostname", "2", True, "hostname"),
        ("srun --unknown-plugin=x -N3 hostname", "3", False, "hostname"),
    ],
)
def test_options_are_found(line: str, nodes: str | None, pinned: bool, program: str) -> None:
    argv = shlex.split(line)
    given = parse(argv)
    assert (given.nodes, given.pinned) == (nodes, pinned)
    assert argv[given.command] == program


def test_an_srun_without_a_program_ends_its_options_at_the_end() -> None:
    assert parse(["srun", "-N"]).command == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("srun -N4 train -w x", "srun -N4 train -w x"),
        ("srun -w n[1-4] -N4 train", "srun -N4 train"),
        ("srun -wn1 --nodelist=n2 --nodelist n3 -Fx -r1 train", "srun train"),
        ("srun -vvw n1 -lFx -lr1 -Xwn1 train", "srun -vv -l -l -X train"),
        ("srun --container-image img -w n1 train", "srun --container-image img train"),
        ("srun --label --relative=2 -- train --nodelist=n1", "srun --label -- train --nodelist=n1"),
    ],
)
def test_names_of_nodes_are_taken_out(line: str, expected: str) -> None:
    assert shlex.join(without_pins(shlex.split(line))) == shlex.join(shlex.split(expected))


def test_components_and_het_groups_are_noticed() -> None:
    assert parse(shlex.split("srun --het-group=0,1 a")).heterogeneous
    assert parse(shlex.split("srun -n1 a : -n2 b")).heterogeneous
    assert not parse(shlex.split("srun -n1 a b")).heterogeneous
    assert parse(shlex.split("srun --jobid=4 a")).jobid


@pytest.mark.parametrize(
    ("line", "at_once"),
    [
        ("srun train", False),
        ("srun --quit-on-interrupt train", True),
        ("srun --quit-on train", True),
        ("srun -N2 -lX train", True),
        ("srun --disable-status train", True),
        ("srun -J X -pX train -X", False),
        ("srun -- -X", False),
    ],
)
def test_a_single_interrupt_ends_a_step_only_where_it_was_asked_for(line: str, at_once: bool) -> None:
    assert interrupts_at_once(shlex.split(line), {}) is at_once
    assert interrupts_at_once(shlex.split(line), {"SLURM_DISABLE_STATUS": "1"})
