"""The recorded applications of a configuration folder: one folder a revision, written ahead of what it records.

A revision is recorded before anything of it is published and is brought up to date at every step, each time by
one atomic replacement. The same record is therefore the history for people, the base of the next three-way
comparison, and the journal from which the next run finishes or undoes what a killed run began.

    <state-dir>/configuration/<folder, quoted>/
        lock
        revisions/000007/record.json
                         before/<file, quoted>      what was there, byte for byte
                         after/<file, quoted>       the whole set of files that the revision is
                         wanted/<file, quoted>      what the request asked for: Merge makes `after` of it
                         request, inventory         as they were given

Everything is readable by its owner alone: the files may hold passwords.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from getpass import getuser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hpadmin.configure import atomic
from hpadmin.errors import InvalidInput, OperationFailed

FORMAT = 1
"""Of record.json. A record of a later format is refused rather than misread."""


class Result(StrEnum):
    """How an application ended."""

    UNFINISHED = "unfinished"
    """It runs now, or it was killed."""
    APPLIED = "applied"
    """Published, and Slurm was seen to run it."""
    WRITTEN = "written"
    """Published without a reconfigure, as asked: nobody looked whether Slurm runs it."""
    RESTORED = "restored"
    """It failed, and the files from before are in place."""
    KEPT = "kept"
    """It failed after Slurm had taken it over, and going back would have ended jobs: it was left in place."""

    @property
    def on_disk(self) -> bool:
        """The revision's files became the configuration, until the next revision that did."""
        return self in (Result.APPLIED, Result.WRITTEN, Result.KEPT)


class Phase(StrEnum):
    """How far an application has come; what a killed one needs depends on it (`hpadmin.configure.apply`)."""

    PREPARED = "prepared"
    """Recorded; nothing outside the state folder but temporary files and fences."""
    PUBLISHING = "publishing"
    """Some files may be replaced already."""
    PUBLISHED = "published"
    """All files are replaced; Slurm may have been told."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file that a revision changes. A digest is None where the file is absent."""

    name: str
    before: str | None
    after: str | None
    mode: int
    """Permission bits, of the file in place before if there was one: publishing and restoring both give them."""
    uid: int
    gid: int
    link: str = ""
    """Where the symbolic link leads that is removed; empty for a file."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What was closed in Slurm so that no job starts where the new configuration would end it."""

    nodes: tuple[str, ...] = ()
    """Drained by this application; each had no DRAIN of anybody's before."""
    partitions: tuple[tuple[str, str], ...] = ()
    """Name and the state to give back."""

    def __bool__(self) -> bool:
        return bool(self.nodes or self.partitions)


@dataclass(frozen=True, slots=True)
class Revision:
    """One application of a configuration."""

    number: int
    command: str
    """``apply``, or ``rollback to <n>``."""
    strategy: str
    user: str
    host: str
    pid: int
    started: str
    """ISO 8601, UTC."""
    reconfigure: bool
    request_digest: str = ""
    inventory_digest: str = ""
    files: tuple[FileRecord, ...] = ()
    """Those that change, in the order of publication."""
    result: Result = Result.UNFINISHED
    phase: Phase = Phase.PREPARED
    finished: str = ""
    detail: str = ""
    """What went wrong, or what is still to come, in words."""
    waiting_nodes: tuple[str, ...] = ()
    """Nodes that did not answer and take the configuration over when they come back."""
    allowed_losses: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Manual changes that were overwritten; their bytes are in `before`."""
    conflicts: tuple[str, ...] = ()
    """True conflicts, and how each was resolved."""
    fence: Fence = field(default_factory=Fence)
    release: str = ""
    """Slurm release that its files were judged by, such as 24.11; empty in records from before that was kept."""
    fence_left: bool = False
    """Slurm did not answer when the fence was to be opened: the next run opens it."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON data, `format` included."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: Any) -> Revision:
        """Read `to_json`'s form. Raises ValueError, saying why, where it is none."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise ValueError(f"its format is {found}, this hpadmin knows {FORMAT}")
        values = _values(Revision, data)
        files, fence = data.get("files"), data.get("fence")
        if not isinstance(files, list) or not isinstance(fence, dict):
            raise ValueError("files or fence is missing, or of the wrong kind")
        values["files"] = tuple(FileRecord(**_values(FileRecord, entry)) for entry in files)
        closed = fence.get("partitions", [])
        if not isinstance(closed, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
            for pair in closed
        ):
            raise ValueError("fence.partitions is of the wrong kind")
        nodes = _values(Fence, fence).get("nodes", ())
        values["fence"] = Fence(nodes, tuple((name, state) for name, state in closed))
        values["result"] = Result(str(data.get("result")))
        values["phase"] = Phase(str(data.get("phase")))
        for time in ("started", "finished"):
            if values.get(time) or (time == "started" or values["result"] is not Result.UNFINISHED):
                datetime.fromisoformat(values.get(time, ""))
        return Revision(**values)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
"""The simple kinds of fields, as they are annotated, and which JSON values are of them."""


def _values(kind: type[Any], data: Any) -> dict[str, Any]:
    """Return the fields of simple kinds that `data` has. Raises ValueError where one is missing or of another kind."""
    if not isinstance(data, dict):
        raise ValueError(f"an entry is no {kind.__name__}")
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(kind):
        fits = _KINDS.get(str(entry.type))
        if fits is None:
            continue
        if entry.name not in data:
            if entry.default is dataclasses.MISSING:
                raise ValueError(f"{entry.name} is missing")
            continue
        value = data[entry.name]
        if not fits(value):
            raise ValueError(f"{entry.name} is of the wrong kind: {value!r}")
        found[entry.name] = tuple(value) if isinstance(value, list) else value
    return found


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A revision whose record is damaged, or was written by a later hpadmin."""

    number: int
    path: Path
    reason: str

    def error(self) -> OperationFailed:
        """What to raise where the record is needed."""
        return OperationFailed(
            f"the record of revision {self.number} cannot be read: {self.path}: {self.reason}",
            hint=f"put {self.path.name} back from a backup, or use the hpadmin that wrote it; without either move "
            f"{self.path.parent} away: then the revision before it counts as the last one",
        )


def now() -> str:
    """The time as records carry it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whoever_runs_this() -> str:
    """The person behind this process: who called sudo, else the user."""
    sudo = os.environ.get("SUDO_USER")
    if sudo:
        return sudo
    try:
        return getuser()
    except (KeyError, OSError):  # a uid without a name (OSError from Python 3.13 on)
        return str(os.getuid())


class History:
    """The revisions of one configuration folder below one state folder."""

    def __init__(self, state_dir: Path, conf_dir: Path) -> None:
        self.conf_dir = conf_dir
        self.folder = state_dir / "configuration" / quote(str(conf_dir.resolve()), safe="")
        self._revisions = self.folder / "revisions"

    def entries(self) -> tuple[Revision | Unreadable, ...]:
        """Return every revision, oldest first, those too whose record cannot be read."""
        return tuple(self._read(number) for number in self._numbers())

    def revisions(self) -> tuple[Revision, ...]:
        """Return every revision whose record can be read, oldest first."""
        return tuple(entry for entry in self.entries() if isinstance(entry, Revision))

    def get(self, number: int) -> Revision:
        """Return one revision; raise InvalidInput when there is none of that number, OperationFailed when its
        record cannot be read."""
        if number not in self._numbers():
            raise InvalidInput(
                f"there is no revision {number} of {self.conf_dir}",
                hint="hpadmin config history lists those there are",
            )
        return _readable(self._read(number))

    def on_disk(self) -> Iterator[Revision]:
        """Yield the revisions whose files became the configuration, the last first.

        Raises OperationFailed at a record that cannot be read: nobody knows whether it is one of them.
        """
        for number in reversed(self._numbers()):
            revision = _readable(self._read(number))
            if revision.result.on_disk:
                yield revision

    def current(self) -> Revision | None:
        """The last revision whose files became the configuration; None before the first. Raises OperationFailed
        where a record after it cannot be read."""
        return next(self.on_disk(), None)

    def unfinished(self) -> Revision | None:
        """The revision of a run that is under way or was killed; None where there is none. Raises OperationFailed
        where the last record cannot be read."""
        numbers = self._numbers()
        last = _readable(self._read(numbers[-1])) if numbers else None
        return last if last is not None and last.result is Result.UNFINISHED else None

    def files(self, revision: Revision) -> dict[str, bytes]:
        """The whole set of files that `revision` is, by name relative to the configuration folder."""
        return self._contents(revision, "after")

    def before(self, revision: Revision) -> dict[str, bytes]:
        """What the changed files were before `revision`; absent ones are left out."""
        return self._contents(revision, "before")

    def copies(self, revision: Revision) -> Path:
        """The folder that holds the files from before `revision`."""
        return self._folder(revision.number) / "before"

    def wanted(self, revision: Revision) -> dict[str, bytes]:
        """What the request of `revision` asked for."""
        return self._contents(revision, "wanted")

    def base(self) -> dict[str, bytes] | None:
        """What was wanted when files were last applied: the base of a three-way comparison; None before that."""
        revision = self.current()
        return None if revision is None else self.wanted(revision)

    def create(
        self,
        revision: Revision,
        *,
        before: Mapping[str, bytes],
        after: Mapping[str, bytes],
        wanted: Mapping[str, bytes],
        request: bytes = b"",
        inventory: bytes = b"",
    ) -> Revision:
        """Record a new revision as unfinished and give it the next number. The lock must be held.

        It appears whole or not at all. Raises OperationFailed, nothing being recorded then, on a full disk for example.
        """
        number = (self._numbers() or (0,))[-1] + 1
        numbered = dataclasses.replace(revision, number=number)
        draft = self._revisions / f".new-{number:06d}"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            _private(draft)
            for side, contents in (("before", before), ("after", after), ("wanted", wanted)):
                _private(draft / side)
                for name, content in contents.items():
                    atomic.write(draft / side / quote(name, safe=""), content, mode=0o600)
                atomic.sync_folder(draft / side)
            for name, content in (("request", request), ("inventory", inventory)):
                if content:
                    atomic.write(draft / name, content, mode=0o600)
            atomic.write(draft / "record.json", _encode(numbered), mode=0o600)
            atomic.sync_folder(draft)
            draft.rename(self._folder(number))
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise self._unusable(error) from error
        atomic.sync_folder(self._revisions)
        return numbered

    def update(self, revision: Revision) -> Revision:
        """Replace the record of `revision` atomically; return it."""
        folder = self._folder(revision.number)
        atomic.replace(folder / "record.json", _encode(revision), mode=0o600)
        return revision

    @contextlib.contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the folder for `purpose`; raise OperationFailed, naming the holder, when somebody else does.

        The kernel frees it with the process, however that ends.
        """
        try:
            _private(self._revisions)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
                raise OperationFailed(
                    f"{self.conf_dir} is being changed already: {holder or 'the holder has not said who it is'}",
                    hint="wait for it to end, then plan again",
                ) from error
            holder = f"{purpose} by {whoever_runs_this()} on {socket.gethostname()}, pid {os.getpid()}, since {now()}"
            with contextlib.suppress(OSError):  # a full disk: then it is held without a name
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _unusable(self, error: OSError) -> OperationFailed:
        return OperationFailed(
            f"nothing can be recorded, so nothing was written: {error.filename or self.folder}: {error.strerror}",
            hint="the state folder (--state-dir) needs space and must be writable",
        )

    def _folder(self, number: int) -> Path:
        return self._revisions / f"{number:06d}"

    def _numbers(self) -> tuple[int, ...]:
        if not self._revisions.is_dir():
            return ()
        return tuple(sorted(int(path.name) for path in self._revisions.iterdir() if path.name.isdigit()))

    def _read(self, number: int) -> Revision | Unreadable:
        path = self._folder(number) / "record.json"
        try:
            revision = Revision.from_json(json.loads(path.read_bytes()))
            if revision.number != number:
                raise ValueError(f"it is that of revision {revision.number}")
        except (OSError, ValueError, RecursionError) as error:
            return Unreadable(number, path, str(error))
        return revision

    def _contents(self, revision: Revision, side: str) -> dict[str, bytes]:
        folder = self._folder(revision.number) / side
        try:
            return {unquote(path.name): path.read_bytes() for path in sorted(folder.iterdir())}
        except OSError as error:
            raise OperationFailed(
                f"the files of revision {revision.number} cannot be read: {error}"
            ) from error


def _readable(entry: Revision | Unreadable) -> Revision:
    if isinstance(entry, Unreadable):
        raise entry.error()
    return entry


def _private(folder: Path) -> None:
    """Make `folder` and its parents; what is made is for its owner alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        atomic.sync_folder(path.parent)


def _encode(revision: Revision) -> bytes:
    return json.dumps(revision.to_json(), indent=2).encode() + b"\n"
