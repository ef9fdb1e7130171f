"""What was recorded of processes killed in the middle of a recovery says what it should."""

from __future__ import annotations

import json

from tests.slurm.resume.killed import CASES
from tests.slurm.resume.record_killed import FILE, table

ROWS = json.loads(FILE.read_text())["cases"]


def test_every_case_was_played() -> None:
    played = [(row["way"], row["point"], row["killed"]) for row in ROWS]
    assert played == [(case.way, case.point, case.victim) for case in CASES]


def test_every_job_was_resumed_once_or_its_user_told_why() -> None:
    for row in ROWS:
        assert row["outcome"] in ("resumed", "not resumed, told why"), row
        assert row["left"] == []
        assert row["more"] == 0
        # Whoever of the cluster's own is killed, the job goes on.
        assert row["outcome"] == "resumed" or row["killed"] == "supervisor", row


def test_the_page_is_that_of_the_record() -> None:
    assert FILE.with_suffix(".md").read_text() == table(ROWS)
