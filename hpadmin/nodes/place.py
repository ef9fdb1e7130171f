"""Looks at one directory, in a process of its own: a file system whose server is gone lets whoever looks wait for ever.

    python3 -ISB place.py /fsx        prints [is a mount point, per cent free, is read-only], or [false, null, null]

Run as a file: nothing but what Python needs for itself is imported.
"""

import json
import os
import sys


def look(place: str) -> tuple[bool, float | None, bool | None]:
    """Return whether `place` is a mount point, its per cent free, whether it is read-only; None if it is not there."""
    try:
        stat = os.statvfs(place)
    except OSError:
        return False, None, None
    free = 100.0 * stat.f_bavail / stat.f_blocks if stat.f_blocks else 100.0
    return os.path.ismount(place), free, bool(stat.f_flag & os.ST_RDONLY)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1])))
