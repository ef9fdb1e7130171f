"""Where keys and passwords come from. They are read when they are needed and never printed.

`DirectorySecrets` is a folder that only root can read; `ManagerSecrets` is AWS Secrets Manager. A name that is an ARN
says itself where its secret is: AWS Secrets Manager is asked with every source, unless the folder has that name.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpadmin.errors import InvalidInput, OperationFailed
from lifecycle.step import Transient

_ARN = re.compile(r"arn:[^:]+:secretsmanager:([^:]+):[0-9]*:secret:.*")
"""Secrets Manager also takes one without the six characters that it puts behind a secret's name."""


class Secrets(Protocol):
    """A source of secrets."""

    def get(self, name: str) -> bytes:
        """Return the secret `name`. Raises OperationFailed, without telling anything of its content."""
        ...


@dataclass(frozen=True, slots=True)
class DirectorySecrets:
    """Files in a folder, each the secret of its name. Folder and files must be closed to everybody but root."""

    folder: Path
    owner: int = 0

    def get(self, name: str) -> bytes:
        path = self.folder / name
        if _is_arn(name) and not path.exists():
            return ManagerSecrets().get(name)
        for checked in (self.folder, path):
            try:
                found = checked.stat()
            except FileNotFoundError as error:
                raise OperationFailed(f"the secret {name} is missing: there is no {checked}") from error
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != self.owner:
                raise OperationFailed(
                    f"the secret {name} is not safe: others than root can reach {checked}",
                    hint=f"chown root {checked} && chmod go= {checked}; then make a new secret, this one is known",
                )
        return path.read_bytes()


@dataclass(frozen=True, slots=True)
class ManagerSecrets:
    """AWS Secrets Manager: `prefix` followed by the name, or a full ARN, is the secret's id."""

    prefix: str = ""

    def get(self, name: str) -> bytes:
        # Only nodes that use Secrets Manager pay for the import.
        import boto3
        from botocore import exceptions

        identifier = name if _is_arn(name) else f"{self.prefix}{name}"
        region = _region(identifier) if _is_arn(identifier) else None
        try:
            client = boto3.client("secretsmanager", region_name=region)
            answer = client.get_secret_value(SecretId=identifier)
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise Transient(f"the secret {identifier} cannot be fetched: {error}") from error
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise OperationFailed(f"the secret {identifier} cannot be fetched: {error}") from error
        if "SecretBinary" in answer:
            return bytes(answer["SecretBinary"])
        return str(answer["SecretString"]).encode()


@dataclass(frozen=True, slots=True)
class NoSecrets:
    """A cluster without a source of secrets: the image brings its key."""

    def get(self, name: str) -> bytes:
        if _is_arn(name):
            return ManagerSecrets().get(name)
        raise OperationFailed(
            f"the secret {name} is needed and no source of secrets is set",
            hint="set `secrets` in lifecycle.yaml",
        )


def source(text: str) -> Secrets:
    """Return the source that `text` names: a folder, ``secretsmanager:PREFIX``, or ``none``.

    Raises InvalidInput for anything else.
    """
    kind, _, rest = text.partition(":")
    if text.startswith("/"):
        return DirectorySecrets(Path(text))
    if kind == "secretsmanager":
        if _is_arn(rest):
            _region(rest)
        return ManagerSecrets(rest)
    if text == "none":
        return NoSecrets()
    raise InvalidInput(f"secrets must be a folder, secretsmanager:PREFIX or none, not {text!r}")


def _is_arn(name: str) -> bool:
    return name.startswith("arn:")


def _region(arn: str) -> str:
    """Return the region that an ARN names. Raises InvalidInput for one that is no secret's."""
    if match := _ARN.fullmatch(arn):
        return match[1]
    raise InvalidInput(
        f"{arn} is no ARN of a secret", hint="it looks like arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME"
    )
