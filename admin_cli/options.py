"""Options that several commands share, and what they amount to.

A command that starts from a request takes ``@request_options`` and gets `inputs: RequestInputs`:

    @group.command()
    @request_options()
    @site_options
    @conf_dir_option
    def plan(inputs: RequestInputs, site: SiteInputs, conf_dir: Path) -> None:
        desired = inputs.cluster(), site.options()
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hpadmin.configure.options import RenderOptions
    from hpadmin.model import Cluster
    from hpadmin.request import Request

F = TypeVar("F", bound=Callable[..., Any])

CONF_DIRECTORIES = ("/opt/slurm/etc", "/etc/slurm")
"""Where Slurm's configuration lies: HyperPod's place, else Debian's."""
STATE_DIRECTORY = "/var/lib/hpadmin"
SITE_FILE = "/etc/hpadmin/site.yaml"
CREDENTIAL_FILE = "/etc/hpadmin/database-password"
"""Where the lifecycle keeps the password of the database that it made on the controller."""


@dataclass(frozen=True, slots=True)
class RequestInputs:
    """The files that a cluster is made from, as given on the command line."""

    request: str
    inventory: str | None
    legacy: str | None
    current: str | None
    update: bool
    node_names: str

    def read(self) -> Request:
        """Validate the request. Raises InvalidInput."""
        from hpadmin import request

        return request.load_request(
            self.request, legacy=self.legacy, current=self.current, update=self.update
        )

    def cluster(self) -> Cluster:
        """Join the request with the inventory. Raises InvalidInput."""
        from hpadmin import request

        if self.inventory is None:
            raise click.UsageError("Missing option '--inventory'.")
        if self.request == "-" and self.inventory == "-":
            raise click.UsageError("REQUEST and --inventory cannot both be stdin.")
        inventory = request.read_inventory(request.read_source(self.inventory))
        return request.build(self.read(), inventory, request.NodeNames(self.node_names))


@dataclass(frozen=True, slots=True)
class SiteInputs:
    """The site's own decisions, as given on the command line."""

    site: str | None
    release: str | None
    accounting: bool
    database_password_file: str | None

    def options(self) -> RenderOptions:
        """Read the site file and put the command line's options over it. Raises InvalidInput."""
        from hpadmin.configure import site
        from hpadmin.configure.options import RenderOptions
        from hpadmin.errors import InvalidInput
        from hpadmin.request import read_source

        path = SITE_FILE if self.site is None and Path(SITE_FILE).is_file() else self.site
        options = RenderOptions() if path is None else site.load(read_source(path))
        if self.release:
            options = replace(options, release=self.release)
        if self.accounting:
            options = replace(options, accounting=True)
        file = self.database_password_file
        if file is None and os.access(CREDENTIAL_FILE, os.R_OK):
            file = CREDENTIAL_FILE
        if file is not None:
            password = read_source(file).text.rstrip("\r\n")
            if not password:
                raise InvalidInput(f"{file} holds no password")
            options = replace(options, storage_password=password)
        return options


def request_options(*, inventory: bool = True) -> Callable[[F], F]:
    """Add REQUEST and the options around it; the command gets them as `inputs: RequestInputs`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(**given: Any) -> Any:
            names = ("request", "inventory", "legacy", "current", "update", "node_names")
            inputs = RequestInputs(**{"inventory": None, "node_names": "address"} | _take(given, names))
            return function(inputs=inputs, **given)

        options: list[Callable[[Any], Any]] = [click.argument("request", metavar="REQUEST")]
        if inventory:
            options += [
                click.option(
                    "--inventory",
                    required=True,
                    metavar="FILE",
                    help="resource_config.json: the instances that exist.",
                ),
                click.option(
                    "--node-names",
                    type=click.Choice(["address", "instance"]),
                    default="address",
                    show_default=True,
                    help="Name nodes ip-10-1-2-3, or after the instance (group-1).",
                ),
            ]
        options += [
            click.option(
                "--legacy",
                metavar="FILE",
                help="provisioning_parameters.json; without it, the one beside REQUEST.",
            ),
            click.option("--update", is_flag=True, help="REQUEST is the body of UpdateCluster."),
            click.option(
                "--current",
                metavar="FILE",
                help="The request that the cluster has now; REQUEST updates it.",
            ),
        ]
        decorated: F = _add(options, wrapper)
        return decorated

    return decorate


def site_options(function: F) -> F:
    """Add the options about the site; the command gets them as `site: SiteInputs`."""

    @functools.wraps(function)
    def wrapper(**given: Any) -> Any:
        names = ("site", "release", "accounting", "database_password_file")
        return function(site=SiteInputs(**_take(given, names)), **given)

    options = [
        click.option(
            "--site",
            metavar="FILE",
            help=f"The site's own settings (docs/request.md). [default: {SITE_FILE} where it exists]",
        ),
        click.option("--release", metavar="RELEASE", help="Slurm release of the cluster, such as 24.11."),
        click.option("--accounting", is_flag=True, help="With slurmdbd on the controller."),
        click.option(
            "--database-password-file",
            metavar="FILE",
            help=f"Password of the accounting database, for slurmdbd.conf. [default: {CREDENTIAL_FILE} where it is]",
        ),
    ]
    decorated: F = _add(options, wrapper)
    return decorated


class Directory(click.Path):
    """A folder's path. An empty one would be the folder that the command was called in."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("must not be empty.", param, ctx)
        return super().convert(value, param, ctx)


def conf_dir_option(function: F) -> F:
    """Add ``--conf-dir`` (parameter `conf_dir: Path`)."""
    return click.option(
        "--conf-dir",
        type=Directory(),
        default=default_conf_dir,
        show_default=f"{CONF_DIRECTORIES[0]}, else {CONF_DIRECTORIES[1]}",
        help="Directory of slurm.conf.",
    )(function)


def state_dir_option(function: F) -> F:
    """Add ``--state-dir`` (parameter `state_dir: Path`)."""
    return click.option(
        "--state-dir",
        type=Directory(),
        default=STATE_DIRECTORY,
        show_default=True,
        help="Where hpadmin keeps what it applied, history and journals.",
    )(function)


def default_conf_dir() -> str:
    """Return the first of `CONF_DIRECTORIES` that exists, else the last."""
    return next((path for path in CONF_DIRECTORIES if Path(path).is_dir()), CONF_DIRECTORIES[-1])


def _take(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given.pop(name) for name in names if name in given}


def _add(options: list[Callable[[Any], Any]], function: Any) -> Any:
    for option in reversed(options):
        function = option(function)
    return function
