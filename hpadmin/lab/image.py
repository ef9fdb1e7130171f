"""The images that the lab and the tests run: Debian's Slurm of a release, and hpadmin on top of it.

`ensure_slurm` gives Slurm alone (``hpadmin/slurm:24.11``), `ensure_node` a machine that can become any node
(``hpadmin/node:24.11``). Docker's layer cache makes both quick when nothing changed. Each returns the id of
the image, not its tag: a tag moves when another checkout builds its own at the same time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import docker

from hpadmin import resources
from hpadmin.errors import HpadminError, InvalidInput, OperationFailed

SUITES = {"24.11": "trixie", "26.05": "forky"}
"""Slurm release to the Debian suite that carries it."""

_EXTRAS = ("lab", "ssh")
"""Optional parts of hpadmin that every node has: what the agent on a controller may need."""

Say = Callable[[str], None]


def _quiet(message: str) -> None:
    pass


def ensure_slurm(client: docker.DockerClient, release: str, *, say: Say = _quiet) -> str:
    """Build what is missing of Slurm's image for `release`; return its id.

    Raises InvalidInput for a release that no Debian suite carries, OperationFailed when building fails.
    """
    tag = f"hpadmin/slurm:{release}"
    with tempfile.TemporaryDirectory(prefix="hpadmin-image-") as context:
        shutil.copy(resources.directory("containers") / "slurm" / "Dockerfile", context)
        return _build(client, Path(context), release, target="slurm", tag=tag, say=say)


def ensure_node(client: docker.DockerClient, release: str = "24.11", *, say: Say = _quiet) -> str:
    """Build the image of a node, with this very hpadmin installed; return its id.

    Raises as `ensure_slurm` does.
    """
    slurm = ensure_slurm(client, release, say=say)
    tag = f"hpadmin/node:{release}"
    with tempfile.TemporaryDirectory(prefix="hpadmin-image-") as folder:
        context = Path(folder)
        shutil.copytree(resources.directory("containers") / "slurm", context, dirs_exist_ok=True)
        _copy_hpadmin(context / "site-packages")
        _copy_tree(resources.directory("slurm_plugins"), context / "slurm_plugins")
        _wheelhouse(client, slurm, context / "wheels", say)
        return _build(client, context, release, target="node", tag=tag, say=say)


def ensure_file_server(client: docker.DockerClient, release: str = "24.11", *, say: Say = _quiet) -> str:
    """Build the image of the lab's file server; return its id. Raises as `ensure_slurm` does."""
    tag = f"hpadmin/fileserver:{release}"
    with tempfile.TemporaryDirectory(prefix="hpadmin-image-") as folder:
        context = Path(folder)
        _copy_tree(resources.directory("containers") / "fileserver", context)
        return _build(client, context, release, target=None, tag=tag, say=say)


def _copy_hpadmin(destination: Path) -> None:
    """Lay out hpadmin as a wheel would: packages, and the folders it carries under hpadmin/_share."""
    package = Path(__file__).resolve().parents[1]
    _copy_tree(package, destination / "hpadmin")
    _copy_tree(package.parent / "admin_cli", destination / "admin_cli")
    names: tuple[resources.Name, ...] = ("conf_templates", "containers", "lifecycle", "slurm_plugins")
    for name in names:
        _copy_tree(resources.directory(name), destination / "hpadmin" / "_share" / name)


def _copy_tree(source: Path, destination: Path) -> None:
    shutil.copytree(
        source,
        destination,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "*.so", "*.o", ".*_cache"),
    )


def _requirements() -> list[str]:
    """What hpadmin needs on a node: its own dependencies and those of the agent's providers."""
    checkout = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text())["project"]
        optional = project["optional-dependencies"]
        return [*project["dependencies"], *(line for extra in _EXTRAS for line in optional[extra])]
    wanted = metadata.requires("hpadmin") or []
    taken = tuple(f'extra == "{extra}"' for extra in _EXTRAS)
    return [
        line.split(";")[0].strip()
        for line in wanted
        if "extra ==" not in line or any(each in line for each in taken)
    ]


def _wheelhouse(client: docker.DockerClient, slurm_image: str, destination: Path, say: Say) -> None:
    """Fetch the wheels that the image's own Python needs.

    They are fetched on this host, whose pip knows its proxy, certificates and index; the build needs none.
    """
    version = (
        client.containers.run(
            slurm_image,
            ["python3", "-c", "import sys, platform; print(*sys.version_info[:2], platform.machine())"],
            remove=True,
        )
        .decode()
        .split()
    )
    major, minor, machine = version
    requirements = _requirements()
    key = hashlib.sha256("\n".join([*version, *requirements]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hpadmin" / f"wheels-{key}"
    if not (cache / "requirements.txt").is_file():
        say(f"fetching hpadmin's dependencies for Python {major}.{minor}")
        cache.mkdir(parents=True, exist_ok=True)
        _download(requirements, f"{major}.{minor}", machine, cache)
        (cache / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    shutil.copytree(cache, destination)


def _download(requirements: Iterable[str], python: str, machine: str, destination: Path) -> None:
    platforms = [f"manylinux_2_{glibc}_{machine}" for glibc in (39, 34, 28, 17)] + [
        f"manylinux2014_{machine}"
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
            *(f"--platform={name}" for name in platforms), "--dest", str(destination), *requirements,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise OperationFailed(
            f"pip cannot fetch hpadmin's dependencies: {done.stderr.strip()[-800:]}",
            hint="the image is built from wheels that pip fetches on this host: check its index and network",
        )


def _base(release: str, say: Say) -> str:
    suite = SUITES.get(release)
    if suite is None:
        raise InvalidInput(f"no image for Slurm {release}: there are {', '.join(SUITES)}")
    tag = f"hpadmin/base:{suite}"
    script = resources.directory("containers") / "base.sh"
    say(f"base image {tag}")
    done = subprocess.run(
        ["sh", str(script), suite, tag], capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode != 0:
        raise OperationFailed(f"{tag} cannot be made: {done.stderr.strip()}")
    return tag


def _build(
    client: docker.DockerClient, context: Path, release: str, *, target: str | None, tag: str, say: Say
) -> str:
    base = _base(release, say)
    say(f"image {tag}")
    printed: list[str] = []
    built = ""
    stream: Iterable[dict[str, Any]] = client.api.build(
        path=str(context),
        tag=tag,
        target=target,
        buildargs={"BASE": base},
        rm=True,
        forcerm=True,
        decode=True,
    )
    for event in stream:
        if text := event.get("stream", "").rstrip():
            printed.append(text)
        if "error" in event:
            tail = "\n".join(printed[-12:])
            raise OperationFailed(f"building {tag} failed: {event['error']}\n{tail}")
        built = event.get("aux", {}).get("ID", built)
    return built or tag


def main(arguments: list[str]) -> int:
    """Build the images of the given releases; the first is the one that nodes run."""
    from hpadmin.lab.engine import connect

    def say(message: str) -> None:
        sys.stderr.write(f"{message}\n")

    try:
        client = connect(timeout=1200)
        first, *others = arguments
        ensure_node(client, first, say=say)
        for release in others:
            ensure_slurm(client, release, say=say)
    except HpadminError as error:
        say(f"hpadmin: {error}" + (f"\n  {error.hint}" if error.hint else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
