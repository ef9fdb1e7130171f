"""Accounting on the controller: MariaDB or an external database, slurmdbd, the cluster and its users in it.

slurmdbd runs before slurmctld: a slurmctld that met no slurmdbd starts with an identity of its own, and the two
then refuse each other (CLUSTER ID MISMATCH).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpadmin.configure import site
from hpadmin.configure.options import RenderOptions
from hpadmin.errors import OperationFailed
from hpadmin.slurm.command import Completed
from lifecycle.daemon import Running, Stopped
from lifecycle.engine import Stage
from lifecycle.machine import Machine
from lifecycle.retry import Retry
from lifecycle.settings import DATABASE_CA, DATABASE_CA_FILE, render_options
from lifecycle.situation import Situation
from lifecycle.stages.accounts import users
from lifecycle.step import Directory, File, Step, Transient

DATABASE_NAME = "slurm_acct_db"
SERVER_CONFIG = "/etc/mysql/mariadb.conf.d/99-hpadmin-slurm.cnf"
_SERVER_SETTINGS = """\
# Written by hpadmin's lifecycle, after Slurm's accounting guide ("Slurm Accounting Configuration Before Build").
[mariadbd]
skip-networking
innodb_lock_wait_timeout=900
innodb_buffer_pool_size=128M
"""
"""skip-networking: slurmdbd uses the socket, so nobody can try passwords from elsewhere."""
CREDENTIAL_FILE = "/etc/hpadmin/database-password"
"""The password of slurmdbd's user, made here or an external database's; ``hpadmin config`` finds it there, too."""
_GENERATED = re.compile(rb"[A-Za-z0-9_-]{43}")
"""A password made here: nothing that SQL or slurmdbd.conf could read differently."""
REFUSED = tuple(f"error: mysql_real_connect failed: {number} " for number in (1044, 1045, 1698))
"""What slurmdbd says when the database does not take its user (src/database/mysql_common.c): MariaDB's
ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR and ER_ACCESS_DENIED_NO_PASSWORD_ERROR."""


def wanted(situation: Situation) -> bool:
    """Tell whether the cluster keeps accounts."""
    return situation.settings.accounting or situation.cluster.accounting


def local(situation: Situation) -> bool:
    """Tell whether the database is on the controller."""
    return situation.cluster.accounting_database is None


def with_secret(situation: Situation, options: RenderOptions) -> RenderOptions:
    """Return the options with user and password of an external database, where the request names one.

    They are in the secret that the request names, as RDS keeps it in Secrets Manager: JSON with `username` and
    `password`. Raises OperationFailed, telling nothing of the secret, when it cannot be had or is none.
    """
    database = situation.cluster.accounting_database
    if database is None:
        return options
    try:
        secret = json.loads(situation.secrets.get(database.secret_arn))
        user, known = secret["username"], secret["password"]
    except (ValueError, KeyError, TypeError):
        user = known = None
    if not (isinstance(user, str) and isinstance(known, str) and user and known):
        # Without the cause: an error of the parser may quote what it could not parse.
        raise OperationFailed(
            f"the secret {database.secret_arn} is no JSON object with username and password"
        )
    if not site.DATABASE_USER.fullmatch(user):
        raise OperationFailed(f"the secret {database.secret_arn} has a username that is none: {user!r}")
    return replace(options, storage_user=user, storage_password=known)


def access(situation: Situation, options: RenderOptions) -> Iterator[Step]:
    """Yield the files by which an external database is reached; ``hpadmin config`` reads the password, too."""
    yield File(CREDENTIAL_FILE, f"{options.storage_password}\n", 0o600)
    authorities = situation.bundle / DATABASE_CA
    if authorities.exists():
        yield File(DATABASE_CA_FILE, authorities.read_bytes())


def credentials(machine: Machine, situation: Situation, options: RenderOptions) -> RenderOptions:
    """Return the options with the password of a database on the controller, where there is one."""
    own = wanted(situation) and local(situation)
    return replace(options, storage_password=password(machine)) if own else options


def password(machine: Machine) -> str | None:
    """Return the generated password; None before there is one, or where the file has that of an external database."""
    found = (machine.read(CREDENTIAL_FILE) or b"").strip()
    return found.decode("ascii") if _GENERATED.fullmatch(found) else None


@dataclass(frozen=True, slots=True)
class Password:
    """A password of slurmdbd's own, made once by the kernel's random numbers, for root's eyes alone."""

    def lacking(self, machine: Machine) -> str | None:
        return None if password(machine) else f"make {CREDENTIAL_FILE}"

    def make(self, machine: Machine) -> None:
        machine.write(CREDENTIAL_FILE, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)


@dataclass(frozen=True, slots=True)
class Database:
    """Slurm's database, and its user with the generated password and no other way in."""

    name: str
    user: str

    def lacking(self, machine: Machine) -> str | None:
        query = (
            "SELECT COUNT(*) FROM mysql.db JOIN information_schema.schemata ON schema_name = db"  # noqa: S608 - see `_sql`
            " JOIN mysql.user ON user.user = db.user AND user.host = db.host"
            f" WHERE db = '{self.name}' AND db.user = '{self.user}' AND db.host = 'localhost'"
            f" AND plugin = 'mysql_native_password' AND authentication_string = PASSWORD('{password(machine)}');"
        )
        return None if self._sql(machine, query) == "1" else f"make database {self.name}"

    def make(self, machine: Machine) -> None:
        user = f"'{self.user}'@'localhost'"
        self._sql(
            machine,
            f"CREATE DATABASE IF NOT EXISTS `{self.name}`;"
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password(machine)}';"
            f"ALTER USER {user} IDENTIFIED BY '{password(machine)}';"
            f"GRANT ALL ON `{self.name}`.* TO {user};",
        )

    def _sql(self, machine: Machine, statements: str) -> str:
        """Run statements as root of the database, on its standard input: a command line is everybody's to read.

        Names come from our own constants and a checked user name.
        """
        done = _patiently(machine, "mariadb", "--batch", "--skip-column-names", stdin=statements)
        if done.returncode != 0:
            # An error of the parser quotes what it could not parse.
            said = done.stderr.strip().replace(password(machine) or "\0", "(not shown)")
            raise Transient(f"MariaDB refuses: {said}")
        return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Registered:
    """An entity of the accounting database, added once. `key` is what ``sacctmgr show`` lists when it is there.

    What an administrator set otherwise since, such as another default account, stays as it is.
    """

    what: str
    """``cluster``, ``account`` or ``user``."""
    name: str
    key: tuple[str, ...]
    """Columns that must be found on one line, the first being the name."""
    columns: str
    filters: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    listed: str = ""
    """What ``sacctmgr show`` is asked for where that is not `what`."""

    def lacking(self, machine: Machine) -> str | None:
        asked = ("show", self.listed or self.what, *self.filters, f"format={self.columns}")
        done = _patiently(machine, "sacctmgr", "-nP", *asked)
        if done.returncode != 0:
            raise Transient(f"slurmdbd does not answer: {done.stderr.strip() or done.stdout.strip()}")
        there = any(tuple(line.split("|")) == self.key for line in done.stdout.splitlines())
        return None if there else f"register {self.what} {self.name}"

    def make(self, machine: Machine) -> None:
        done = _patiently(machine, "sacctmgr", "-i", "-Q", "add", self.what, self.name, *self.settings)
        said = done.stderr.strip() or done.stdout.strip()
        # Somebody else, a second controller or slurmctld itself, may have been quicker.
        if done.returncode != 0 and "Nothing new added" not in said and "already exists" not in said:
            raise Transient(f"{self.what} {self.name} cannot be registered: {said}")


def _patiently(machine: Machine, *argv: str, stdin: str | None = None) -> Completed:
    """Run a command that a busy database may let wait. Raises Transient when it does."""
    try:
        return machine.runner.run(argv, timeout=60, stdin=stdin)
    except OperationFailed as error:
        raise Transient(str(error), hint=error.hint) from error


def database(situation: Situation) -> Iterator[Step]:
    """Yield the steps up to a slurmdbd that knows the cluster."""
    options = render_options(situation.settings, situation.cluster)
    if local(situation):
        yield File(SERVER_CONFIG, _SERVER_SETTINGS)
        yield Running(
            "mariadb",
            "mariadbd",
            reads=(SERVER_CONFIG,),
            probe=("mariadb-admin", "--silent", "ping"),
            timeout=120,
        )
        yield Database(DATABASE_NAME, options.storage_user)
    yield Directory(options.log_directory, 0o755, options.slurm_user)
    configuration = f"{situation.conf_dir}/slurmdbd.conf"
    yield Running(
        "slurmdbd",
        "slurmdbd",
        reads=(configuration, *_authorities(options)),
        probe=("sacctmgr", "-nP", "show", "cluster"),
        log=f"{options.log_directory}/slurmdbd.log",
        vain=REFUSED,
        advice=_advice(situation),
        timeout=120,
    )
    name = situation.cluster.name.lower()
    yield Registered("cluster", name, (name,), "cluster")


def _authorities(options: RenderOptions) -> tuple[str, ...]:
    return (options.storage_ca,) if options.storage_ca else ()


def _advice(situation: Situation) -> str:
    database = situation.cluster.accounting_database
    if database is None:
        return ""
    return f"{database.endpoint} must take the user and the password that are in the secret {database.secret_arn}"


def no_database(situation: Situation) -> Iterator[Step]:
    """Yield the steps for every node that keeps no accounts: what an image starts by itself is off."""
    yield Stopped("mariadb", "mariadbd")
    yield Stopped("slurmdbd", "slurmdbd")


def associations(situation: Situation) -> Iterator[Step]:
    """Yield the steps that give every user an account to run jobs under."""
    account = situation.settings.account
    yield Registered(
        "account", account, (account,), "account", (account,), ("Description=hpadmin", "Organization=hpadmin")
    )
    for user in users(situation):
        name = user.name
        which = (f"user={name}", f"account={account}")
        yield Registered(
            "user", name, (name, account), "user,account", which, (f"Account={account}",), "associations"
        )


def _applies(situation: Situation) -> bool:
    return situation.is_primary and wanted(situation)


DATABASE = Stage(
    "accounting", "database and slurmdbd", database, _applies, retry=Retry(deadline=900, base=1, cap=15)
)
NO_DATABASE = Stage("no-accounting", "databases off", no_database, lambda situation: not _applies(situation))
ASSOCIATIONS = Stage("associations", "accounts of users", associations, _applies, retry=Retry(deadline=300))
