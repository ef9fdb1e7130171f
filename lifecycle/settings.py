"""`lifecycle.yaml`: what the administrator turns on, and how Slurm is set up beyond the request.

    profile: host            # or container: no cgroups, devices listed instead of detected, hardware as configured
    auth: munge              # or slurm
    secrets: /opt/ml/secrets # or secretsmanager:PREFIX, or none (the image brings its key)

Every member has a default; an unknown member or a value of the wrong kind is an error.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpadmin.configure import site
from hpadmin.configure.options import RenderOptions
from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Cluster
from hpadmin.request import NodeNames, Source, read_source
from hpadmin.request.document import parse

FILE = "lifecycle.yaml"

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "host": {},
    # A container has no cgroups of its own to give and less hardware than its instance type; its reboot is its
    # engine's. Its devices are nodes in /dev without a driver: listed (`render_options`), not detected.
    # Nor has it mail.
    "container": {
        "process_tracking": "linuxproc",
        "config_overrides": True,
        "reboot_program": None,
        "mail_program": "/bin/true",
    },
}
"""What a profile sets of Slurm's `RenderOptions`; `slurm` in the file goes on top."""

HEALTH_CHECK = "/usr/local/sbin/hpadmin-health"
PROLOG = "/usr/local/lib/hpadmin/prolog"
EPILOG = "/usr/local/lib/hpadmin/epilog"
"""Where every node has the programs that slurm.conf names."""

DATABASE_CA = "database-ca.pem"
"""In the bundle: certificates of the authorities that an external database's certificate is signed by."""
DATABASE_CA_FILE = f"/etc/hpadmin/{DATABASE_CA}"
"""Where the controller has them."""

_ACCOUNT = re.compile(r"[a-z0-9_][a-z0-9_-]*")
"""A name that sacctmgr takes as it is: it makes letters lower-case, and a list of what commas part."""

DEVICE_NAMES: Mapping[str, str] = {"gpu": "/dev/nvidia", "neuron": "/dev/neuron"}
"""Device nodes by `Hardware.accelerator_kind`, without their number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The administrator's choices for the nodes of a cluster."""

    profile: str = "host"
    auth: str = "munge"
    node_names: NodeNames = NodeNames.ADDRESS
    secrets: str = "/opt/ml/secrets"
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """Members of `hpadmin.configure.options.RenderOptions`."""
    users: str = "shared_users.txt"
    """The list of users, relative to the bundle; read when it is there."""
    accounting: bool = False
    """Keep accounts in a MariaDB on the controller; an `AccountingDatabase` in the request goes before it."""
    account: str = "users"
    """Slurm account that users' jobs are charged to."""
    private_data: bool = True
    """Users see their own jobs and accounts, not those of others (slurm.conf(5) PrivateData)."""
    submission_checks: bool = True
    """Refuse jobs at submission whose segments no block can ever hold, by Slurm's Lua plugins."""
    follow_inventory: bool = True
    """Let the controller's lifecycle run again when `resource_config.json` changes, where systemd can watch it."""
    auto_resume: bool = True
    """Give srun the option ``--auto-resume``."""
    health_check: bool = True
    """Check nodes' health regularly and around jobs."""
    agent: bool = True
    """Run the recovery agent on the controller, where the bundle has its `agent.toml`."""
    rest: bool = False
    """Run slurmrestd with JWT on the controller."""
    login_shell_groups: tuple[str, ...] = ("Login",)
    """Node types whose nodes users may log in to over SSH."""
    containers: bool = False
    """Install enroot and pyxis on every node, from packages in the bundle's `packages/` or from apt."""
    observability: bool = False
    """Install and run Prometheus exporters."""
    log_rotation: bool = True


def load(bundle: Path) -> Settings:
    """Read `lifecycle.yaml` of a bundle; without one all defaults hold. Raises InvalidInput with all problems."""
    path = bundle / FILE
    found = Settings()
    if path.exists():
        source = read_source(path)
        document = parse(source.text, origin=source.origin)
        found = from_data(document.value or {}, str(path), list(document.problems))
    if (bundle / DATABASE_CA).exists():
        found = dataclasses.replace(found, slurm={"storage_ca": DATABASE_CA_FILE, **found.slurm})
    return found


def from_data(data: Any, origin: str, problems: list[Problem] | None = None) -> Settings:
    """Check plain data and return the settings. Raises InvalidInput with all problems."""
    wrong = list(problems or [])
    known = {entry.name: entry for entry in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    if not isinstance(data, dict):
        raise InvalidInput(f"{origin} is not valid", [Problem("", "must be an object")])
    for key, value in data.items():
        if key not in known:
            wrong.append(Problem(key, f"unknown; there are {', '.join(known)}"))
            continue
        try:
            values[key] = _value(key, value)
        except ValueError as error:
            wrong.append(Problem(key, str(error)))
    if wrong:
        raise InvalidInput(f"{origin} is not valid", wrong)
    return Settings(**values)


def site_file(settings: Settings, cluster: Cluster, storage_user: str) -> str:
    """Return the text of /etc/hpadmin/site.yaml: with it, ``hpadmin config`` on the controller means the same.

    `storage_user` is the database's user, where an external database's secret names one.
    """
    # Imported here: only a controller writes the file.
    import yaml

    chosen = _site(settings, cluster)
    if storage_user != RenderOptions().storage_user:
        chosen["storage_user"] = storage_user
    text: str = yaml.safe_dump(chosen, sort_keys=True)
    return "# Written by hpadmin's lifecycle from the bundle's lifecycle.yaml.\n" + text


def _site(settings: Settings, cluster: Cluster) -> dict[str, Any]:
    """The members of /etc/hpadmin/site.yaml."""
    chosen: dict[str, Any] = {"auth": settings.auth, "accounting": settings.accounting, "jwt": settings.rest}
    chosen["submission_checks"] = settings.submission_checks
    if settings.private_data:
        chosen["private_data"] = ["jobs", "usage"]
    if settings.health_check:
        chosen |= {"health_check_program": HEALTH_CHECK, "prolog": PROLOG, "epilog": EPILOG}
    chosen["spank_plugins"] = [
        *(["optional spank_auto_resume.so"] if settings.auto_resume else []),
        # Required: were it optional, a task whose container does not start would run outside of it.
        *(["required spank_pyxis.so"] if settings.containers else []),
    ]
    chosen |= PROFILES[settings.profile]
    if settings.profile == "container":
        chosen["device_files"] = device_files(cluster)
    return chosen | dict(settings.slurm)


def render_options(settings: Settings, cluster: Cluster) -> RenderOptions:
    """Return how Slurm's files are rendered. Raises InvalidInput when `slurm` has what is no such option."""
    # As JSON, which YAML is a superset of and which takes a hundredth of the time.
    return site.load(Source(json.dumps(_site(settings, cluster)), f"{FILE} (slurm)"))


def device_files(cluster: Cluster) -> dict[str, list[str]]:
    """Return the device nodes of every group whose instances have accelerators."""
    found: dict[str, list[str]] = {}
    for node in cluster.computes:
        hardware = node.hardware
        if hardware.accelerator_kind:
            prefix = DEVICE_NAMES[hardware.accelerator_kind]
            found[node.instance.group] = [f"{prefix}{n}" for n in range(hardware.accelerator_count)]
    return found


def _value(key: str, value: Any) -> Any:
    """Check one member. Raises ValueError with what is wrong."""
    if key == "profile":
        if not isinstance(value, str) or value not in PROFILES:
            raise ValueError(f"must be {' or '.join(PROFILES)}, got {value!r}")
        return value
    if key == "auth":
        if value not in ("munge", "slurm"):
            raise ValueError(f"must be munge or slurm, got {value!r}")
        return value
    if key == "node_names":
        if value not in list(NodeNames):
            raise ValueError(f"must be {' or '.join(NodeNames)}, got {value!r}")
        return NodeNames(value)
    if key == "account":
        if not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
            raise ValueError(
                f"must be lower-case letters, digits, _ and -, as sacctmgr keeps accounts; got {value!r}"
            )
        return value
    if key == "slurm":
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        return value
    if key == "login_shell_groups":
        if not isinstance(value, list) or any(
            name not in ("Controller", "Login", "Compute") for name in value
        ):
            raise ValueError("must be a list of Controller, Login, Compute")
        return tuple(value)
    default = getattr(Settings(), key)
    if type(value) is not type(default):
        raise ValueError(f"must be a {type(default).__name__}, got {value!r}")
    return value
