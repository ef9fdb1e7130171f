"""The recorded fault table holds for the applications of today: every step has its row, and nothing was lost."""

from __future__ import annotations

import json
from pathlib import Path

from hpadmin.configure.history import History
from tests.lab.record_apply_faults import TABLE, Row, markdown
from tests.unit.configure.test_apply_transaction import FakeSlurm, apply, write

ROWS = [Row(**row) for row in json.loads(TABLE.read_text())]


def test_no_fault_costs_a_job_a_node_or_a_file() -> None:
    assert [row.fault for row in ROWS if row.lost] == []


def test_after_a_fault_slurmctld_runs_what_was_or_what_is_wanted() -> None:
    assert {row.slurmctld for row in ROWS} == {"before", "after", "down"}
    assert {row.fault for row in ROWS if row.slurmctld == "down"} == {
        row.fault for row in ROWS if row.fault.startswith("slurmctld ")
    }


def test_what_failed_in_words_left_the_files_from_before() -> None:
    edited_by_hand = ("a file is edited", "Merge keeps a line")
    assert {
        row.on_disk for row in ROWS if row.exit_code == 1 and not row.fault.startswith(edited_by_hand)
    } == {"before"}
    assert all(row.said for row in ROWS if row.exit_code == 1)


def test_every_step_of_an_application_was_killed(tmp_path: Path) -> None:
    write(tmp_path / "etc", {"slurm.conf": b"old\n", "gres.conf": b"old\n"})
    steps = ["let Slurm check the files"]
    apply(History(tmp_path / "state", tmp_path / "etc"), FakeSlurm(), steps.append)
    # That run writes cgroup.conf too, which did not change in the recorded one.
    taken = [step for step in steps if not step.endswith("cgroup.conf")]
    killed = [row.fault.removeprefix("kill -9 before: ") for row in ROWS if row.exit_code == 137]
    assert killed == taken


def test_the_table_for_people_is_the_recorded_one() -> None:
    assert TABLE.with_suffix(".md").read_text() == markdown(ROWS)
