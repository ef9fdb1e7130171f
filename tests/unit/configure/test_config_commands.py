"""``hpadmin config plan | apply | drift | history | rollback`` where no slurmctld answers: files, exit codes, JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from admin_cli.root import root
from hpadmin.configure.history import History, Revision, now
from hpadmin.configure.history import Result as Written

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


class Site:
    """A configuration folder, a state folder, and a request that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "etc"
        self.conf.mkdir()
        self.request = json.loads((EXAMPLES / "guide.json").read_text())
        self.inventory = EXAMPLES / "guide.resource_config.json"

    def run(self, verb: str, *words: str) -> Result:
        places = ["--conf-dir", str(self.conf), "--state-dir", str(self.folder / "state")]
        return CliRunner().invoke(root, ["config", verb, *words, *places])

    def for_request(self, verb: str, *words: str) -> Result:
        path = self.folder / "request.json"
        path.write_text(json.dumps(self.request))
        return self.run(verb, str(path), "--inventory", str(self.inventory), *words)

    def apply(self, *words: str) -> Result:
        return self.for_request("apply", "--yes", "--no-reconfigure", *words)

    def strategy(self, name: str) -> None:
        self.request["Orchestrator"] = {"Slurm": {"SlurmConfigStrategy": name}}

    def append(self, text: str) -> bytes:
        path = self.conf / "slurm.conf"
        path.write_bytes(path.read_bytes() + text.encode())
        return path.read_bytes()

    def revisions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("history", "-o", "json").stdout)["revisions"]
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def applied(site: Site) -> Site:
    done = site.apply()
    assert done.exit_code == 0, done.output
    return site


def test_a_plan_has_the_agreed_members_and_exit_code_3(site: Site) -> None:
    done = site.for_request("plan", "-o", "json")
    assert done.exit_code == 3
    plan = json.loads(done.stdout)
    assert plan["strategy"] == "Managed"
    assert plan["first"] is True
    assert plan["drift"] == []
    for change in plan["changes"]:
        assert list(change) == ["file", "kind", "subject", "before", "after", "requires", "affects_jobs"]
    assert {"slurm.conf", "gres.conf", "cgroup.conf"} <= {change["file"] for change in plan["changes"]}
    assert list(site.conf.iterdir()) == []


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_what_differs_between_request_and_inventory_is_told(site: Site, verb: str) -> None:
    site.request["InstanceGroups"][2]["InstanceCount"] = 16
    words = {"plan": (), "apply": ("--yes", "--no-reconfigure")}
    done = site.for_request(verb, *words[verb], "-o", "json")
    assert "note: gpu-compute: has 8 instances, 16 were requested\n" in done.stderr


def test_a_password_that_others_can_read_is_a_change_of_its_own(site: Site) -> None:
    password = site.folder / "password"
    password.write_text("secret\n")
    words = ("--accounting", "--database-password-file", str(password))
    assert site.apply(*words).exit_code == 0
    assert site.for_request("plan", *words).exit_code == 0
    (site.conf / "slurmdbd.conf").chmod(0o644)
    (site.conf / "slurm.conf").chmod(0o640)
    done = site.for_request("plan", *words, "-o", "json")
    assert done.exit_code == 3
    (change,) = json.loads(done.stdout)["changes"]
    assert (change["file"], change["kind"], change["before"], change["after"]) == (
        "slurmdbd.conf",
        "mode changed",
        "0644",
        "0600",
    )
    assert site.apply(*words).exit_code == 0
    assert (site.conf / "slurmdbd.conf").stat().st_mode & 0o777 == 0o600
    assert (site.conf / "slurm.conf").stat().st_mode & 0o777 == 0o640


def test_applied_there_is_nothing_left_to_change(applied: Site) -> None:
    assert applied.run("drift").exit_code == 0
    assert applied.revisions()[0]["result"] == "written"
    assert applied.apply().exit_code == 0
    assert len(applied.revisions()) == 1


def test_what_was_only_written_is_no_change_where_no_slurmctld_runs_other_files(applied: Site) -> None:
    done = applied.for_request("plan", "-o", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["changes"] == []


def test_without_slurmctld_apply_says_so_and_writes_nothing(site: Site) -> None:
    done = site.for_request("apply", "--yes")
    assert done.exit_code == 1
    assert "slurmctld does not answer" in done.stderr
    assert "--no-reconfigure" in done.stderr
    assert list(site.conf.iterdir()) == []


def test_managed_drift_blocks_with_each_finding_and_the_ways_out(applied: Site) -> None:
    text = (applied.conf / "slurm.conf").read_text()
    (applied.conf / "slurm.conf").write_text(text.replace("PartitionName=gpu-training", "PartitionName=mine"))
    before = (applied.conf / "slurm.conf").read_bytes()
    for verb in ("plan", "apply"):
        done = applied.for_request(verb, *(["--yes", "--no-reconfigure"] if verb == "apply" else []))
        assert done.exit_code == 4, done.output
        assert "PartitionName=mine" in done.stdout
        assert "Merge" in done.stdout
        assert "Overwrite" in done.stdout
    assert (applied.conf / "slurm.conf").read_bytes() == before
    found = json.loads(applied.run("drift", "-o", "json").stdout)["drift"]
    assert applied.run("drift").exit_code == 4
    assert {"file", "line", "setting", "expected", "found", "owner"} <= set(found[0])
    assert {finding["owner"] for finding in found} == {"hyperpod", "site"}


def test_merge_keeps_and_overwrite_undoes_and_both_say_so(applied: Site) -> None:
    applied.append("# ours\nTCPTimeout=5\n")
    applied.request["InstanceGroups"][2]["SlurmConfig"]["PartitionNames"] = ["renamed"]
    applied.strategy("Merge")
    assert applied.apply().exit_code == 0
    text = (applied.conf / "slurm.conf").read_text()
    assert text.endswith("# ours\nTCPTimeout=5\n")
    assert "PartitionName=renamed" in text
    applied.strategy("Overwrite")
    done = applied.apply()
    assert done.exit_code == 0
    assert "lost" in done.stdout
    assert "TCPTimeout" not in (applied.conf / "slurm.conf").read_text()
    last = applied.revisions()[-1]
    assert (last["strategy"], last["lost"]) == ("Overwrite", ["TCPTimeout: 5"])


def test_a_site_of_its_own_is_adopted_by_merge_and_refused_by_managed(site: Site) -> None:
    own = "# Our cluster\nClusterName=ours\nSlurmctldHost=ours\nTCPTimeout=5\nPartitionName=site Nodes=ALL\n"
    (site.conf / "slurm.conf").write_text(own)
    assert site.apply().exit_code == 4
    assert (site.conf / "slurm.conf").read_text() == own
    site.strategy("Merge")
    done = site.apply()
    assert done.exit_code == 0, done.output
    text = (site.conf / "slurm.conf").read_text()
    assert "# Our cluster" in text
    assert "TCPTimeout=5" in text
    assert "PartitionName=site" in text
    assert "conflict: slurm.conf ClusterName" in done.stdout


def test_the_way_back_is_recorded_like_any_other(applied: Site) -> None:
    first = (applied.conf / "slurm.conf").read_bytes()
    applied.request["InstanceGroups"][2]["SlurmConfig"]["PartitionNames"] = ["renamed"]
    assert applied.apply().exit_code == 0
    applied.append("TCPTimeout=5\n")
    done = applied.run("rollback", "--yes", "--no-reconfigure", "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["revision"]["command"] == "rollback to 1"
    assert (applied.conf / "slurm.conf").read_bytes() == first
    assert applied.revisions()[-1]["lost"] == ["TCPTimeout: 5"]
    back = applied.run("rollback", "2", "--yes", "--no-reconfigure")
    assert back.exit_code == 0, back.output
    assert b"PartitionName=renamed" in (applied.conf / "slurm.conf").read_bytes()


def test_there_may_be_nothing_to_go_back_to(applied: Site) -> None:
    assert applied.run("rollback", "--yes").exit_code == 2
    gone = applied.run("rollback", "9", "--yes")
    assert gone.exit_code == 2
    assert "there is no revision 9" in gone.stderr


def test_nobody_answers_no(site: Site) -> None:
    done = site.for_request("apply", "--no-reconfigure")
    assert done.exit_code == 1
    assert list(site.conf.iterdir()) == []


def test_secrets_are_nobody_elses(site: Site) -> None:
    password = site.folder / "password"
    password.write_text("s3cret\n")
    done = site.apply("--accounting", "--database-password-file", str(password))
    assert done.exit_code == 0, done.output
    assert (site.conf / "slurmdbd.conf").stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in done.output
    for path in (site.folder / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_drift_before_anything_was_applied_is_a_question_without_an_answer(site: Site) -> None:
    done = site.run("drift")
    assert done.exit_code == 2
    assert "nothing was applied" in done.stderr


@pytest.mark.parametrize(("release", "exit_code"), [("24.11", 4), ("25.05", 0), ("", 4)])
def test_drift_is_judged_by_the_release_of_the_last_application(
    site: Site, release: str, exit_code: int
) -> None:
    conf = "ClusterName=c\nTopologyPlugin=topology/block\nNodeName=n1 CPUs=1\nNodeName=n2 CPUs=1\n"
    swapped = "ClusterName=c\nTopologyPlugin=topology/block\nNodeName=n2 CPUs=1\nNodeName=n1 CPUs=1\n"
    (site.conf / "slurm.conf").write_text(swapped)
    history = History(site.folder / "state", site.conf)
    revision = Revision(
        0,
        "apply",
        "Managed",
        "ada",
        "ctl",
        1,
        now(),
        reconfigure=False,
        result=Written.WRITTEN,
        finished=now(),
    )
    with history.lock("apply"):
        history.create(
            dataclasses.replace(revision, release=release),
            before={},
            after={"slurm.conf": conf.encode()},
            wanted={"slurm.conf": conf.encode()},
        )
    assert site.run("drift").exit_code == exit_code


def test_an_application_records_its_release(applied: Site) -> None:
    assert [revision["release"] for revision in applied.revisions()] == ["24.11"]


def test_a_damaged_record_is_listed_and_old_ones_stand_in_nobodys_way(applied: Site) -> None:
    (record,) = applied.folder.glob("state/**/000001/record.json")
    applied.request["InstanceGroups"][-1]["SlurmConfig"]["PartitionNames"] = ["another"]
    assert applied.apply().exit_code == 0
    record.write_text("{")
    listed = applied.run("history")
    assert listed.exit_code == 0
    assert "unreadable" in listed.stdout.splitlines()[1]
    found = json.loads(applied.run("history", "-o", "json").stdout)
    assert [entry["number"] for entry in found["unreadable"]] == [1]
    assert applied.run("drift").exit_code == 0
    assert applied.for_request("plan").exit_code == 0
    back = applied.run("rollback", "--yes", "--no-reconfigure")
    assert back.exit_code == 1
    assert "the record of revision 1 cannot be read" in back.output
