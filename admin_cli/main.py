"""The entry point `hpadmin`.

The top level's help is text that stands here, and everything else waits until it is needed: importing click alone
takes three times as long as starting Python, and ``hpadmin --help`` should not.
"""

from __future__ import annotations

import sys

from admin_cli.top import help_text
from hpadmin import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from typing import Any


class _Entry:
    """The command line: answers the top level's ``--help`` and ``--version`` itself, is click for all else."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        asked = sys.argv[1:]
        if asked in (["-h"], ["--help"]):
            return _print(help_text())
        if asked == ["--version"]:
            return _print(f"hpadmin, version {__version__}\n")
        from admin_cli.root import root

        return root(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        from admin_cli.root import root

        return getattr(root, name)


def _print(text: str) -> int:
    if sys.stdout is None:  # it was closed when this process started
        return 0
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        from admin_cli.report import lost_output

        lost_output(error)
    return 0


cli = _Entry()
"""What the console script calls; has click's interface too, for callers such as its test runner."""
