"""Files that are replaced whole or not at all, and survive a power cut once a call returned.

`stage` writes the new content beside its target under a name of our own, `publish` renames it into place: all
that can fail for want of space or rights fails in the first, while nothing has changed yet.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it stands on disk."""

    content: bytes
    mode: int
    """Permission bits."""
    uid: int
    gid: int

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return digest(self.content)


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def allowed_mode(found: int, rendered: int) -> int:
    """Return the mode that a file of mode `found` may keep; `rendered` is what a new one would get.

    What is rendered for its owner alone may hold a password: others lose what they could do with it.
    """
    return found & rendered if rendered & 0o077 == 0 else found


def read(path: Path) -> Found | None:
    """Read a file with its mode and owner; None where there is none. Raises OSError where it cannot be read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return Found(file.read(), status.st_mode & 0o7777, status.st_uid, status.st_gid)
    except FileNotFoundError:
        return None


def staged_name(path: Path) -> Path:
    """Where the content to come of `path` waits: a hidden neighbour, so that a rename within one filesystem does.

    A symbolic link is followed first: the file that it leads to is what changes.
    """
    target = path.resolve()
    return target.with_name(f".{target.name}.hpadmin-new")


def kept_name(path: Path) -> Path:
    """Where `keep` puts the file that `path` is now."""
    target = path.resolve()
    return target.with_name(f".{target.name}.hpadmin-old")


def stage(path: Path, content: bytes, *, mode: int, uid: int, gid: int) -> None:
    """Write the content to come of `path` beside it. Raises OSError and leaves nothing behind when it fails."""
    write(staged_name(path), content, mode=mode, owner=(uid, gid))


def publish(path: Path) -> None:
    """Put the staged content of `path` in its place, atomically and durably."""
    target = path.resolve()
    staged_name(path).rename(target)
    sync_folder(target.parent)


def keep(path: Path) -> None:
    """Give the file that `path` is now a second name, from which `bring_back` needs no space on the disk.

    Does nothing on a filesystem without hard links.
    """
    kept = kept_name(path)
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(path.resolve())
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise


def bring_back(path: Path, expected: str) -> bool:
    """Put the kept file back in its place; False where there is none whose digest is `expected`."""
    kept = kept_name(path)
    found = read(kept)
    if found is None or found.digest != expected:
        return False
    target = path.resolve()
    kept.rename(target)
    sync_folder(target.parent)
    return True


def tidy(path: Path) -> None:
    """Remove what `stage` and `keep` left beside `path`."""
    for left in (staged_name(path), kept_name(path)):
        # Asked first: where the filesystem is read-only even removing what is not there fails.
        if os.path.lexists(left):
            left.unlink(missing_ok=True)


def link_of(path: Path) -> str:
    """Return where the symbolic link `path` leads, as it says itself; empty where it is none."""
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file
            return ""
        raise


def make_link(path: Path, leads_to: str) -> None:
    """Make `path` a symbolic link, atomically and durably."""
    made = path.with_name(f".{path.name}.hpadmin-new")
    made.unlink(missing_ok=True)
    made.symlink_to(leads_to)
    made.rename(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove `path`, durably; it may be gone already. Of a symbolic link the file that it leads to stays."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Stage and publish in one go, the owner being whoever runs this."""
    write(staged_name(path), content, mode=mode)
    publish(path)


def write(path: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a new file durably, never readable by more than `mode` allows, not even for a moment.

    Raises OSError and leaves nothing behind when it fails.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error  # write() names no file


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
