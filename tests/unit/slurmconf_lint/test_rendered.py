"""What hpadmin renders itself is clean."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from admin_cli.root import root
from hpadmin.slurmconf.lint import Severity, lint_path

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("release", ["24.11", "25.05", "25.11", "26.05"])
@pytest.mark.parametrize("accounting", [[], ["--accounting"]], ids=["alone", "accounting"])
@pytest.mark.parametrize("example", ["guide", "ultraservers"])
def test_a_rendered_example(example: str, accounting: list[str], release: str, tmp_path: Path) -> None:
    request, inventory = EXAMPLES / f"{example}.json", EXAMPLES / f"{example}.resource_config.json"
    arguments = ["config", "render", str(request), "--inventory", str(inventory), "--out", str(tmp_path)]
    CliRunner().invoke(root, [*arguments, "--release", release, *accounting], catch_exceptions=False)
    findings = lint_path(tmp_path, release=release)
    assert not [str(finding) for finding in findings if finding.severity is not Severity.INFO]
