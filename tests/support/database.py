"""What stands for RDS and Secrets Manager: a MariaDB in a container of its own, an HTTP server with its secret."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.models.containers import Container

from hpadmin.lab import machine
from hpadmin.lab.engine import ContainerRunner
from tests.support import awsjson, labs

ENDPOINT = "slurm.abcdefghijkl.us-west-2.rds.amazonaws.com"
ARN = "arn:aws:secretsmanager:us-west-2:111122223333:secret:slurm-AbCdEf"

_SOCKET = "/tmp/mariadb.sock"
_CERTIFICATES = f"""
set -e
cd /etc/mysql
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Test Root CA" \\
    -keyout ca.key -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN={ENDPOINT}" -keyout server.key -out server.csr
printf 'subjectAltName=DNS:{ENDPOINT}' >names
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
chown mysql server.key
"""


@dataclass
class Database:
    """A MariaDB that takes nobody without TLS, as RDS can be told to; switched off at first."""

    container: Container
    runner: ContainerRunner

    def start(self) -> None:
        """Switch it on, and wait until it answers."""
        files = "--ssl-ca=/etc/mysql/ca.pem --ssl-cert=/etc/mysql/server.pem --ssl-key=/etc/mysql/server.key"
        options = f"--user=mysql --bind-address=0.0.0.0 --skip-name-resolve --socket={_SOCKET}"
        options = f"{options} --require-secure-transport=ON {files}"
        self._run("sh", "-c", f"setsid mariadbd {options} >/var/log/mariadbd.log 2>&1 </dev/null &")
        labs.wait_until(lambda: self.sql("SELECT 1;") == "1", 120, "the database answers")

    def kill(self) -> None:
        """Let it end as a host that loses its power."""
        self._run("pkill", "-KILL", "-x", "mariadbd")

    def allow(self, user: str, password: str) -> None:
        """Let `user` in with this password from now on, as RDS' master user."""
        who, known = f"'{user}'@'%'", password.replace("\\", "\\\\").replace("'", "''")
        self.sql(
            f"CREATE USER IF NOT EXISTS {who}; ALTER USER {who} IDENTIFIED BY '{known}'; GRANT ALL ON *.* TO {who};"
        )

    def sql(self, statements: str) -> str:
        """Run statements; return what they gave."""
        done = self.runner.run(
            ["mariadb", f"--socket={_SOCKET}", "--batch", "--skip-column-names"],
            stdin=statements,
            timeout=120,
        )
        return done.check().stdout.strip()

    def authority(self) -> str:
        """The certificate of who signed the database's own."""
        return self._run("cat", "/etc/mysql/ca.pem")

    def _run(self, *command: str) -> str:
        return self.runner.run(command, timeout=120).check().stdout


@contextlib.contextmanager
def database(client: docker.DockerClient, network: str, tag: str) -> Iterator[Database]:
    """A database that machines on `network` know as `ENDPOINT`, removed at the end."""
    name = f"{network}-database"
    api = client.api
    created = api.create_container(
        tag,
        command=["sleep", "infinity"],
        entrypoint=[],
        name=name,
        labels={"hpadmin.test": "bare"},
        host_config=api.create_host_config(init=True, network_mode=network),
        networking_config={"EndpointsConfig": {network: api.create_endpoint_config(aliases=[ENDPOINT])}},
    )
    container = client.containers.get(created["Id"])
    try:
        container.start()
        runner = ContainerRunner(client, name)
        runner.run(["sh", "-c", _CERTIFICATES], timeout=120).check()
        yield Database(container, runner)
    finally:
        machine.remove(container)


@dataclass
class Vault:
    """The secrets behind a server that speaks as much of Secrets Manager as is asked of it."""

    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)

    def keep(self, user: str, password: str) -> None:
        """Make this the database's secret, in the form that RDS gives it."""
        fields = {"engine": "mariadb", "host": ENDPOINT, "port": 3306, "username": user, "password": password}
        self.secrets[ARN] = json.dumps(fields)

    def answer(self, operation: str, request: dict[str, Any]) -> awsjson.Answer:
        """Answer one request."""
        found = self.secrets.get(request.get("SecretId", ""))
        if operation != "GetSecretValue":
            return 400, {"__type": "UnknownOperationException", "Message": operation}
        if found is None:
            message = "Secrets Manager can't find the specified secret."
            return 400, {"__type": "ResourceNotFoundException", "Message": message}
        return 200, {
            "ARN": ARN,
            "Name": "slurm",
            "VersionId": "11111111-2222-3333-4444-555555555555",
            "VersionStages": ["AWSCURRENT"],
            "SecretString": found,
        }


@contextlib.contextmanager
def vault(client: docker.DockerClient, network: str) -> Iterator[Vault]:
    """A Secrets Manager that machines on `network` can reach."""
    gateway = client.networks.get(network).attrs["IPAM"]["Config"][0]["Gateway"]
    found = Vault()
    with awsjson.serving(found.answer, gateway) as url:
        found.url = url
        yield found


def introduce(node: ContainerRunner, to: Vault) -> None:
    """Let root's AWS clients on a node find Secrets Manager, as a profile and an instance's role let them."""
    node.run(["mkdir", "-p", "/root/.aws"], timeout=60).check()
    config = f"[default]\nservices = test\n[services test]\nsecrets_manager =\n  endpoint_url = {to.url}\n"
    node.put("/root/.aws/config", config)
    node.put(
        "/root/.aws/credentials", "[default]\naws_access_key_id = x\naws_secret_access_key = x\n", mode=0o600
    )
