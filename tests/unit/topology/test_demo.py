"""What the demo asks of ``hpadmin topology place`` is answered as the demo expects."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from admin_cli.root import root
from hpadmin.slurm.hostlist import expand

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SCENARIOS: tuple[tuple[list[str], list[int], str], ...] = runpy.run_path(str(EXAMPLES / "demo.py"))[
    "SCENARIOS"
]


@pytest.fixture(scope="module")
def conf_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    request, inventory = (EXAMPLES / f"ultraservers.{end}" for end in ("json", "resource_config.json"))
    done = CliRunner().invoke(
        root, ["config", "render", str(request), "--inventory", str(inventory), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize(
    ("options", "expected", "why"), SCENARIOS, ids=[" ".join(each[0]) for each in SCENARIOS]
)
def test_a_scenario(conf_dir: Path, options: list[str], expected: list[int], why: str) -> None:
    words = ["topology", "place", "-p", "training", *options, "--conf-dir", str(conf_dir), "-o", "json"]
    done = CliRunner().invoke(root, words)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["result"] == "starts"
    blocks = {}
    for line in (conf_dir / "topology.conf").read_text().splitlines():
        if line.startswith("BlockName="):
            blocks.update(dict.fromkeys(expand(line.partition("Nodes=")[2]), line.split()[0]))
    assert sorted(Counter(blocks[node] for node in answer["nodes"]).values()) == expected, why
