"""Where the files live that hpadmin carries but Python does not import.

In a checkout they are top-level folders (`conf_templates/`, `lifecycle/`, `slurm_plugins/`, `containers/`);
in a wheel they travel inside the package as `hpadmin/_share/<name>`, so that such generic names never
occupy somebody's site-packages.

>>> directory("conf_templates").is_dir()
True
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Name = Literal["conf_templates", "containers", "lifecycle", "slurm_plugins"]


def directory(name: Name) -> Path:
    """Return the folder `name`, from the wheel's copy or from the checkout.

    Raises FileNotFoundError when the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_share" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"hpadmin was installed without its {name}/ folder; install it again")
