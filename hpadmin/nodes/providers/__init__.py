"""The providers that exist, made from the ``[provider]`` table of ``agent.toml``.

[provider]
kind = "sagemaker"          # or "docker", "ssh"
cluster = "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdefghijkl"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpadmin.errors import InvalidInput, Problem
from hpadmin.nodes.provider import Provider

_LONGEST = 86400.0
KINDS = ("sagemaker", "docker", "ssh")


def from_settings(table: Mapping[str, Any]) -> Provider:
    """Make the provider that `table` describes. Raises InvalidInput for a table that describes none."""
    kind = table.get("kind")
    settings = {key: value for key, value in table.items() if key != "kind"}
    try:
        match kind:
            case "sagemaker":
                from hpadmin.nodes.providers.sagemaker import SageMaker

                return SageMaker.from_settings(settings)
            case "docker":
                from hpadmin.nodes.providers.docker import Docker

                return Docker.from_settings(settings)
            case "ssh":
                from hpadmin.nodes.providers.ssh import Ssh

                return Ssh.from_settings(settings)
    except ImportError as error:
        raise InvalidInput(
            f"the {kind} provider needs a package that is not installed: {error.name}",
            hint=f"pip install 'hpadmin[{'lab' if kind == 'docker' else 'ssh'}]'",
        ) from error
    raise InvalidInput(
        "no provider of nodes is configured" if kind is None else f"there is no provider {kind!r}",
        [Problem("provider.kind", f"must be one of {', '.join(KINDS)}")],
        hint="agent.toml describes it, in its table [provider]",
    )


def take(settings: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Check a provider's settings against its defaults, by name and type; return them all.

    A default that is a type means: required, and of this type. Numbers are seconds: a ``timeout`` is positive, others
    may be 0. Raises InvalidInput with every problem.
    """
    problems = [Problem(f"provider.{key}", "no such setting") for key in settings.keys() - defaults.keys()]
    taken: dict[str, Any] = {}
    for key, default in defaults.items():
        kind = default if isinstance(default, type) else type(default)
        value = settings.get(key, default)
        if value is kind:
            problems.append(Problem(f"provider.{key}", "is required"))
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            taken[key] = float(value)
        elif not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            problems.append(Problem(f"provider.{key}", f"must be of type {kind.__name__}, not {value!r}"))
        else:
            taken[key] = value
        number = taken.get(key)
        if isinstance(number, float) and not (0 if key != "timeout" else 0.001) <= number <= _LONGEST:
            least = "positive" if key == "timeout" else "not negative"
            problems.append(
                Problem(f"provider.{key}", f"must be {least} and at most {_LONGEST:g} s, is {value!r}")
            )
    if problems:
        raise InvalidInput("the provider's settings are not valid", problems)
    return taken
