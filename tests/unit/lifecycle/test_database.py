"""Slurm's database: whose password it takes, and what slurmdbd says of it."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from hpadmin.configure import desired
from hpadmin.configure.options import RenderOptions
from hpadmin.errors import OperationFailed
from hpadmin.model import AccountingDatabase, NodeType
from hpadmin.slurm.command import Completed
from lifecycle import secrets
from lifecycle.machine import Machine
from lifecycle.secrets import DirectorySecrets
from lifecycle.settings import Settings, load, render_options, site_file
from lifecycle.situation import Situation
from lifecycle.stages import accounting
from lifecycle.step import File, Transient
from lifecycle.words import Words
from tests.support import awsjson
from tests.support.database import ARN, Vault
from tests.unit.lifecycle.support import machine, situation

EXTERNAL = AccountingDatabase("db.example.com", 3306, "acct", "arn:aws:secretsmanager:us-west-2:1:secret:db")


@dataclass(frozen=True)
class OneSecret:
    """A source that has one secret under every name."""

    content: bytes

    def get(self, name: str) -> bytes:
        return self.content


def external(tmp_path: Path, secret: bytes) -> Situation:
    here = situation(tmp_path, NodeType.CONTROLLER, secrets=OneSecret(secret))
    return replace(here, cluster=replace(here.cluster, accounting=True, accounting_database=EXTERNAL))


def test_an_external_database_is_reached_with_the_secrets_user_and_password(tmp_path: Path) -> None:
    here = external(tmp_path, b'{"username": "admin", "password": "s3cr3t"}')
    options = accounting.with_secret(here, RenderOptions())
    assert accounting.credentials(Machine(tmp_path), here, options) == options
    assert (options.storage_user, options.storage_password) == ("admin", "s3cr3t")
    assert "s3cr3t" not in repr(options)
    assert not accounting.local(here)


@pytest.mark.parametrize(
    "secret",
    [
        b"s3cr3t",
        b'"s3cr3t"',
        b'["s3cr3t"]',
        b'{"password": "s3cr3t"',
        b'{"password": "s3cr3t"}',
        b'{"username": "admin", "password": ["s3cr3t"]}',
        b'{"username": 1, "password": "s3cr3t"}',
        b'{"username": "admin", "password": ""}',
        b"\xff",
    ],
)
def test_a_secret_that_is_none_is_refused_without_showing_it(tmp_path: Path, secret: bytes) -> None:
    with pytest.raises(OperationFailed, match="is no JSON object with username and password") as error:
        accounting.with_secret(external(tmp_path, secret), RenderOptions())
    shown = "".join(traceback.format_exception(error.value))
    assert "s3cr3t" not in shown


def test_a_database_of_ones_own_gets_a_password_that_is_made_once_and_is_roots_alone(tmp_path: Path) -> None:
    box, _ = machine(tmp_path)
    here = situation(tmp_path, NodeType.CONTROLLER, settings=Settings(accounting=True))
    assert accounting.credentials(box, here, RenderOptions()).storage_password is None
    step = accounting.Password()
    assert step.lacking(box) == "make /etc/hpadmin/database-password"
    step.make(box)
    assert step.lacking(box) is None
    file = tmp_path / "etc/hpadmin/database-password"
    assert file.stat().st_mode & 0o777 == 0o600
    made = accounting.credentials(box, here, RenderOptions()).storage_password
    assert made
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", made)
    text = desired.render(
        here.cluster, accounting.credentials(box, here, render_options(here.settings, here.cluster))
    )
    assert f'StoragePass="{made}"\n' in text["slurmdbd.conf"]
    assert not [name for name, content in text.items() if made in content and name != "slurmdbd.conf"]


def test_the_databases_password_is_told_to_mariadb_on_its_input_and_in_no_error(tmp_path: Path) -> None:
    said = "ERROR 1064 (42000) at line 1: You have an error in your SQL syntax near {!r}"

    def refuse(argv: tuple[str, ...], stdin: str | None) -> Completed:
        assert made in (stdin or "")
        return Completed(argv, 1, "", said.format(made))

    box, recorder = machine(tmp_path, refuse)
    accounting.Password().make(box)
    made = accounting.password(box) or ""
    with pytest.raises(Transient, match=r"near '\(not shown\)'") as error:
        accounting.Database("slurm_acct_db", "slurm").make(box)
    assert made not in "".join(traceback.format_exception(error.value))
    assert not [call for call in recorder.calls if made in " ".join(call)]


def test_a_cluster_without_accounts_has_no_password(tmp_path: Path) -> None:
    box, _ = machine(tmp_path)
    accounting.Password().make(box)
    here = situation(tmp_path, NodeType.CONTROLLER)
    assert accounting.credentials(box, here, RenderOptions()).storage_password is None


def test_a_username_that_slurmdbd_conf_could_read_differently_is_refused(tmp_path: Path) -> None:
    here = external(tmp_path, b'{"username": "a\\nStorageHost=evil", "password": "s3cr3t"}')
    with pytest.raises(OperationFailed, match="has a username that is none"):
        accounting.with_secret(here, RenderOptions())


def test_the_password_of_an_external_database_is_never_that_of_ones_own(tmp_path: Path) -> None:
    here = external(tmp_path, b'{"username": "admin", "password": "it\'s; DROP DATABASE slurm_acct_db"}')
    host, _ = machine(tmp_path)
    (file,) = (
        step
        for step in accounting.access(here, accounting.with_secret(here, RenderOptions()))
        if isinstance(step, File)
    )
    file.make(host)
    assert (tmp_path / accounting.CREDENTIAL_FILE.lstrip("/")).stat().st_mode & 0o777 == 0o600
    assert accounting.password(host) is None
    assert accounting.Password().lacking(host) is not None


def test_hpadmin_config_on_the_controller_knows_the_user_of_an_external_database(tmp_path: Path) -> None:
    here = external(tmp_path, b'{"username": "admin", "password": "s3cr3t"}')
    options = accounting.with_secret(here, RenderOptions())
    assert (
        yaml.safe_load(site_file(here.settings, here.cluster, options.storage_user))["storage_user"]
        == "admin"
    )
    assert "storage_user" not in yaml.safe_load(site_file(here.settings, here.cluster, "slurm"))


def test_the_bundles_authorities_are_those_of_the_database(tmp_path: Path) -> None:
    here = external(tmp_path, b'{"username": "admin", "password": "s3cr3t"}')
    here.bundle.mkdir()
    (here.bundle / "database-ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    options = accounting.with_secret(here, render_options(load(here.bundle), here.cluster))
    assert options.storage_ca == "/etc/hpadmin/database-ca.pem"
    steps = [step for step in accounting.access(here, options) if isinstance(step, File)]
    assert [step.path for step in steps] == [accounting.CREDENTIAL_FILE, options.storage_ca]
    text = desired.render(here.cluster, options)["slurmdbd.conf"]
    assert "\nStorageParameters=SSL_CA=/etc/hpadmin/database-ca.pem\n" in text


def test_a_folder_of_secrets_may_have_one_by_its_arn(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / EXTERNAL.secret_arn).write_bytes(b"mine")
    (folder / EXTERNAL.secret_arn).chmod(0o600)
    assert DirectorySecrets(folder, owner=folder.stat().st_uid).get(EXTERNAL.secret_arn) == b"mine"


def associations(tmp_path: Path) -> list[accounting.Registered]:
    """The steps for ann in account users."""
    here = situation(tmp_path, NodeType.CONTROLLER, settings=Settings(accounting=True))
    here.bundle.mkdir()
    (here.bundle / "shared_users.txt").write_text("ann,2001\n")
    return [step for step in accounting.associations(here) if isinstance(step, accounting.Registered)]


def test_a_user_whose_default_account_an_administrator_changed_is_registered(tmp_path: Path) -> None:
    def sacctmgr(argv: tuple[str, ...], stdin: str | None) -> Completed:
        # ann's default account is another one since; both associations are there.
        rows = {"user": "ann|proj\n", "associations": "ann|users\n", "account": "users\n"}
        return Completed(argv, 0, rows[argv[3]], "")

    host, recorder = machine(tmp_path, sacctmgr)
    assert [step.lacking(host) for step in associations(tmp_path)] == [None, None]
    assert recorder.calls[-1] == (
        "sacctmgr", "-nP", "show", "associations", "user=ann", "account=users", "format=user,account",
    )  # fmt: skip


def test_a_user_without_the_account_gets_it(tmp_path: Path) -> None:
    host, recorder = machine(tmp_path)
    step = associations(tmp_path)[1]
    assert step.lacking(host) == "register user ann"
    step.make(host)
    assert recorder.calls[-1] == ("sacctmgr", "-i", "-Q", "add", "user", "ann", "Account=users")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A Secrets Manager that boto3 finds, with one secret."""
    kept = Vault()
    kept.keep("admin", "s3cr3t")
    with awsjson.serving(kept.answer) as url:
        for name, value in (
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", url),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-west-2"),
            ("AWS_MAX_ATTEMPTS", "1"),
        ):
            monkeypatch.setenv(name, value)
        yield kept


@pytest.mark.parametrize("source", ["/nowhere", "secretsmanager:cluster/", "none"])
def test_an_arn_is_asked_of_secrets_manager_whatever_the_source(aws: Vault, source: str) -> None:
    assert json.loads(secrets.source(source).get(ARN))["password"] == "s3cr3t"


def test_what_secrets_manager_refuses_is_told_and_not_tried_again(aws: Vault) -> None:
    with pytest.raises(
        OperationFailed, match=r"the secret cluster/auth.key cannot be fetched: .*can't find"
    ) as error:
        secrets.source("secretsmanager:cluster/").get("auth.key")
    assert not isinstance(error.value, Transient)


def test_a_secrets_manager_that_is_away_may_be_back(aws: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    with pytest.raises(Transient, match="cannot be fetched: Could not connect"):
        secrets.source("none").get(ARN)


def test_what_a_daemon_says_from_now_on_is_told_once(tmp_path: Path) -> None:
    host, _ = machine(tmp_path)
    log = tmp_path / "log"
    log.write_text("[1] error: old\n")
    words = Words(host, "/log")
    assert words.new() == []
    again = "[3] error: The database must be up when starting the MYSQL plugin.  Trying again in 5 seconds.\n"
    with log.open("a") as file:
        file.write(f"[2] error: 2002 away\n{again}[4] info\n[5] err")
    assert words.new() == ["error: 2002 away"]
    with log.open("a") as file:
        file.write(f"or: 2002 away\n{again}")
    assert words.new() == []
    log.write_text("[6] fatal: no\n")  # rotated
    assert words.new() == ["fatal: no"]
