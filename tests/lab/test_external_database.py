"""A cluster whose accounts are in a database elsewhere, which is late, refuses, dies, and gets another password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hpadmin.lab import image
from tests.support import labs, secrets
from tests.support.bare import Bare, bare
from tests.support.database import ARN, ENDPOINT, Database, Vault, database, introduce, vault

pytestmark = pytest.mark.lab

PASSWORD = """p#a'1$b\\2 Zq8Yw3"""
"""What Slurm's files, SQL and a shell read differently."""
WRONG = "not-the-password-x7Kq2"
REQUEST = {
    "NodeProvisioningMode": "Continuous",
    "Orchestrator": {
        "Slurm": {"AccountingDatabase": {"Endpoint": ENDPOINT, "Name": "accounts", "SecretArn": ARN}}
    },
}


@dataclass(frozen=True)
class Site:
    """A controller and a compute node, their database, and where its secret is."""

    machines: Bare
    database: Database
    vault: Vault

    def head(self, *command: str) -> str:
        """Run a command on the controller."""
        return self.machines.run("head-1", *command)

    def accounted(self) -> list[str]:
        """Names and states of the jobs that the database has."""
        return self.head("sacct", "-nXPa", "-S", "now-1hour", "-o", "jobname,state").splitlines()

    def runs_a_job(self, name: str) -> None:
        """Run a job of that name to its end."""
        self.head("srun", "-D", "/", "-J", name, "true")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with bare(request=REQUEST) as machines:
        tag = image.ensure_node(machines.client)
        with (
            database(machines.client, machines.name, tag) as found,
            vault(machines.client, machines.name) as kept,
        ):
            machines.bundle["database-ca.pem"] = found.authority()
            machines.start("head-1", "work-1")
            introduce(machines.runner("head-1"), kept)
            yield Site(machines, found, kept)


def test_a_database_that_is_late_is_waited_for_and_a_wrong_password_is_told(site: Site) -> None:
    site.vault.keep("admin", WRONG)
    site.machines.begin("head-1")
    late = f"slurmdbd says: error: mysql_real_connect failed: 2002 Can't connect to server on '{ENDPOINT}'"
    labs.wait_until(lambda: late in site.machines.log("head-1"), 240, "slurmdbd looks for its database")
    assert site.machines.state("head-1")["stage"] == "accounting"

    site.database.start()
    site.database.allow("admin", PASSWORD)
    site.machines.wait("head-1", "failed")
    address = site.machines.addresses["head-1"]
    said = site.machines.log("head-1").splitlines()[-1]
    assert said.partition("on_create failed: ")[2] == (
        "stage accounting failed: slurmdbd is refused: error: mysql_real_connect failed: 1045 Access denied for "
        f"user 'admin'@'{address}' (using password: YES) ({ENDPOINT} must take the user and the password "
        f"that are in the secret {ARN})"
    )
    assert WRONG not in site.machines.log("head-1")
    assert not site.machines.runs("head-1", "slurmdbd")


def test_a_database_that_dies_while_its_tables_are_made_is_gone_on_with(site: Site) -> None:
    site.vault.keep("admin", PASSWORD)
    site.machines.begin("head-1")
    tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'accounts';"
    labs.wait_until(lambda: int(site.database.sql(tables)) >= 3, 240, "the first tables", pause=0)
    said = site.machines.log("head-1").count("slurmdbd says: ")
    site.database.kill()
    labs.wait_until(
        lambda: site.machines.log("head-1").count("slurmdbd says: ") > said, 240, "slurmdbd complains of it"
    )
    site.database.start()
    site.machines.wait("head-1", "done")


def test_jobs_are_accounted_in_the_database(site: Site) -> None:
    done = site.machines.on_create("work-1")
    assert done.returncode == 0, done.stdout
    site.runs_a_job("first")
    labs.wait_until(lambda: site.accounted() == ["first|COMPLETED"], 120, "the job is in the accounts")
    assert site.database.sql("SELECT job_name FROM accounts.test_job_table;") == "first"
    assert not site.machines.runs("head-1", "mariadbd")
    assert "\nStorageParameters=SSL_CA=/etc/hpadmin/database-ca.pem\n" in site.head(
        "cat", "/etc/slurm/slurmdbd.conf"
    )


def test_a_second_run_and_hpadmin_config_find_nothing_to_do(site: Site) -> None:
    second = site.machines.on_create("head-1")
    assert second.returncode == 0, second.stdout
    assert not [
        line for line in second.stdout.splitlines() if " done in " in line and " 0 changes" not in line
    ]
    request, inventory = "/opt/ml/bundle/request.json", "/opt/ml/config/resource_config.json"
    site.head("hpadmin", "config", "plan", request, "--inventory", inventory)


def test_jobs_run_while_the_database_is_away_and_are_in_it_afterwards(site: Site) -> None:
    site.database.kill()
    site.runs_a_job("meanwhile")
    site.database.start()
    wanted = {"first|COMPLETED", "meanwhile|COMPLETED"}
    labs.wait_until(lambda: set(site.accounted()) == wanted, 240, "both jobs are in the accounts")


def test_another_password_is_taken_in_by_the_next_run(site: Site) -> None:
    site.database.allow("admin", "another-1Xw9")
    site.vault.keep("admin", "another-1Xw9")
    done = site.machines.on_create("head-1")
    assert done.returncode == 0, done.stdout
    assert site.machines.outcome("head-1", "accounting")["changes"] == [
        "restart slurmdbd, whose configuration changed"
    ]
    assert site.machines.outcome("head-1", "controller")["changes"] == []
    site.runs_a_job("after")
    labs.wait_until(lambda: "after|COMPLETED" in site.accounted(), 120, "the job is in the accounts")


def test_no_secret_can_be_read_by_others(site: Site) -> None:
    head = site.machines.runner("head-1")
    for name, password in (("first", WRONG), ("second", PASSWORD)):
        head.put(f"/root/{name}", password, mode=0o600)
    count, places = secrets.shown(head, "/root/first", "/root/second")
    assert (count >= 4, places) == (True, "[]")
