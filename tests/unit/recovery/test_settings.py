"""agent.toml: the example is valid, mistakes are told all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.nodes import healthconf
from hpadmin.nodes.faults import FaultAction
from hpadmin.nodes.provider import Repair
from hpadmin.recovery.policy import Policy, Settings
from hpadmin.recovery.resume.limits import Limits

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "agent"


def test_the_examples_are_valid() -> None:
    settings = Settings.load(EXAMPLES / "agent.toml")
    assert settings.provider["kind"] == "sagemaker"
    assert settings.policy == Policy(protected=("gpu-001",), actions={"unreachable": Repair.REPLACE})
    expected = healthconf.load(EXAMPLES / "health.toml", inventory=Path("/nonexistent"))
    assert (expected.accelerators, expected.efa) == (8, 32)
    assert expected.actions["xid-94"] is FaultAction.REBOOT
    assert [check.form for check in expected.externals] == ["exit", "dcgmi"]


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert Settings.load(tmp_path / "agent.toml") == Settings()


def test_mistakes_are_told_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        """
        colour = 1
        probe = "no"
        metrics = 5
        provider = "docker"
        [resume]
        resumes = 2000
        quick_failures = 0
        service = "1h"
        budget = 3
        [policy]
        max_in_flight = 1.5
        automatic = "yes"
        settle = -1
        protected = "n1"
        colour = "red"
        """
    )
    with pytest.raises(InvalidInput) as caught:
        Settings.load(path)
    assert sorted(problem.path for problem in caught.value.problems) == [
        "colour",
        "metrics",
        "policy.automatic",
        "policy.colour",
        "policy.max_in_flight",
        "policy.protected",
        "policy.settle",
        "probe",
        "provider",
        "resume.budget",
        "resume.quick_failures",
        "resume.resumes",
        "resume.service",
    ]


def test_protected_nodes_are_hostlists(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[policy]\nprotected = ["gpu-[001-002]", "login"]\n')
    assert Settings.load(path).policy.protected == ("gpu-001", "gpu-002", "login")
    path.write_text('[policy]\nprotected = ["gpu-[001-"]\n')
    with pytest.raises(InvalidInput, match=r"policy\.protected: "):
        Settings.load(path)


def test_the_limits_of_resume_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[resume]\nresumes = 0\nservice = 600\ndiagnosis = 10\n")
    assert Settings.load(path).resume == Limits(resumes=0, service=600, diagnosis=10)
    assert (Limits().within, Limits(service=600).within) == (0, 600)


@pytest.mark.parametrize(
    ("spent", "cpu", "hurried", "expected"),
    [
        (0.5, 0.1, False, 1.5),
        (3.0, 0.1, False, 0.0),
        (1.0, 0.5, False, 4.0),
        (1.0, 0.5, True, 0.0),
        (0.25, 0.2, True, 0.75),
    ],
)
def test_looks_are_as_frequent_as_a_tenth_of_a_processor_allows(
    spent: float, cpu: float, hurried: bool, expected: float
) -> None:
    assert Settings(interval=2).pause(spent, cpu, hurried=hurried) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["x", "colour = 1", "resume = 3", "interval = 0", "interval = true"])
def test_bad_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"agent\.toml"):
        Settings.load(path)
