"""Putting a set of files in place as one change: all of it counts, or none of it, whenever the process dies.

The order is that of a write-ahead log. Everything is recorded in the history first, then staged beside its
target, and only then renamed into place; then Slurm is told, watched, and the record closed:

    recorded → staged → jobs kept off → jobs looked at → published → reconfigured → verified → closed

Whatever raises on the way, an interrupt included, puts the files from before back. A process that is killed
leaves its record: `recover`, which every later run calls first, goes back where Slurm was not told yet, and
carries on where it may have been. Slurm itself is behind the `Service` protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hpadmin.configure import atomic
from hpadmin.configure.history import Fence, FileRecord, History, Phase, Result, Revision, now
from hpadmin.errors import OperationFailed

Step = Callable[[str], None]
"""Called before each step with what comes next, for people who wait (and for tests that kill)."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was seen of Slurm after it was told."""

    waiting_nodes: tuple[str, ...] = ()
    """Nodes that did not answer before either: they take the configuration over when they come back."""
    remarks: tuple[str, ...] = ()
    """What an administrator should know though it is no failure."""


class Service(Protocol):
    """The running Slurm, as far as a transaction needs it. Methods raise OperationFailed."""

    def fence(self) -> Fence:
        """Say what must be closed to new jobs while the configuration changes. Nothing is closed yet."""
        ...

    def close(self, fence: Fence) -> None:
        """Close it. May be called again for a fence that is closed already, wholly or in part."""
        ...

    def reopen(self, fence: Fence) -> None:
        """Open again what this fence closed and nobody else wants closed. May be called again."""
        ...

    def check_jobs(self) -> None:
        """Raise JobsAtStake when going over to the files to come would end a job that may not be lost."""
        ...

    def check_jobs_back(self) -> None:
        """Raise JobsAtStake when going back to the files from before would end a job."""
        ...

    def reconfigure(self) -> None:
        """Have Slurm read the files on disk, once."""
        ...

    def verify(self) -> Verified:
        """Raise unless slurmctld and every node that answered before run the files on disk."""
        ...

    def verify_back(self) -> Verified:
        """The same after going back; must not raise for nodes that do not answer."""
        ...


class JobsAtStake(OperationFailed):
    """Going on would end jobs."""


def file_records(
    conf_dir: Path, after: Mapping[str, bytes], *, removed: tuple[str, ...], mode: Callable[[str], int]
) -> tuple[tuple[FileRecord, ...], dict[str, bytes]]:
    """Compare the wanted files with those on disk; return what changes, in the order of publication, and
    the contents from before.

    What slurm.conf names is in place before slurm.conf, and goes after it: topology files above all.
    A file keeps its mode and owner, but for one that `mode` gives to its owner alone: that one loses what others
    may do, and is recorded also where nothing else of it changes.
    """
    records = []
    before = {}
    owner = atomic.read(conf_dir / "slurm.conf")
    for name in sorted({*after, *removed}, key=lambda name: (name == "slurm.conf", name)):
        found = atomic.read(conf_dir / name)
        wanted = after.get(name)
        if found is not None:
            before[name] = found.content
        allowed = atomic.allowed_mode(found.mode, mode(name)) if found else mode(name)
        if (found.content if found else None) == wanted and (found is None or found.mode == allowed):
            continue
        like = found or owner
        records.append(
            FileRecord(
                name=name,
                before=found.digest if found else None,
                after=atomic.digest(wanted) if wanted is not None else None,
                mode=allowed,
                uid=like.uid if like else -1,
                gid=like.gid if like else -1,
                link=atomic.link_of(conf_dir / name) if wanted is None else "",
            )
        )
    changed = {record.name for record in records}
    gone = [record for record in records if record.after is None]
    kept = [record for record in records if record.after is not None]
    return (*kept, *gone), {name: content for name, content in before.items() if name in changed}


class Transaction:
    """One change of a configuration folder, recorded as `revision`. The history's lock must be held."""

    def __init__(self, history: History, revision: Revision, service: Service, step: Step) -> None:
        self.history = history
        self.revision = revision
        self.service = service
        self.step = step

    def run(self) -> Revision:
        """Carry it out; return the closed record.

        Raises OperationFailed, the files from before being back or the message saying what is in place instead.
        """
        try:
            self._prepare()
            self._publish()
            seen = self._tell()
        except BaseException as error:
            self._go_back(error)
            raise self._failure(error) from error
        return self._succeed(seen)

    def finish_or_undo(self) -> Revision:
        """Bring the record of a killed run to an end; return it closed.

        Where all files were published it is carried on, else (or where that fails) undone. Raises
        OperationFailed when the files from before cannot be put back.
        """
        if self.revision.phase is not Phase.PUBLISHED or not self._is_published():
            self._go_back(OperationFailed("the run was killed"))
            return self.revision
        try:
            seen = self._tell()
        except BaseException as error:
            self._go_back(error)
            if not isinstance(error, (OperationFailed, OSError)):
                raise
            return self.revision
        return self._succeed(seen)

    def _prepare(self) -> None:
        after = self.history.files(self.revision)
        for record in self.revision.files:
            path = self._path(record)
            if record.after is not None:
                self.step(f"stage {record.name}")
                atomic.stage(path, after[record.name], mode=record.mode, uid=record.uid, gid=record.gid)
            if record.before is not None and not record.link:
                self.step(f"keep {record.name}")
                atomic.keep(path)
        if not self.revision.reconfigure:
            return
        fence = self.service.fence()
        if fence:
            self.step("record the fence")
            self._note(fence=fence)
            self.step("close the fence")
            self.service.close(fence)
        self.step("look at the jobs")
        self.service.check_jobs()

    def _publish(self) -> None:
        moved = [record.name for record in self.revision.files if self._digest(record) != record.before]
        if moved:
            raise OperationFailed(f"somebody else changed {', '.join(moved)} meanwhile", hint="plan again")
        self.step("record the publication")
        self._note(phase=Phase.PUBLISHING)
        for record in self.revision.files:
            if record.after is None:
                self.step(f"remove {record.name}")
                atomic.remove(self._path(record))
            else:
                self.step(f"publish {record.name}")
                atomic.publish(self._path(record))
        self.step("record that all is published")
        self._note(phase=Phase.PUBLISHED)

    def _tell(self) -> Verified:
        if not self.revision.reconfigure:
            return Verified()
        self.step("look at the jobs again")
        self.service.check_jobs()
        self.step("reconfigure")
        self.service.reconfigure()
        self.step("verify")
        return self.service.verify()

    def _succeed(self, seen: Verified) -> Revision:
        result = Result.APPLIED if self.revision.reconfigure else Result.WRITTEN
        try:
            return self._close(result, *seen.remarks, waiting_nodes=seen.waiting_nodes)
        except OSError as error:
            raise OperationFailed(
                f"the new files are in place, but that could not be recorded: {_words(error)}",
                hint="make space or mend the disk, then run any hpadmin config apply: it completes the record",
            ) from error

    def _go_back(self, error: BaseException) -> None:
        """Put the files from before back, unless Slurm runs the new ones and jobs would end by it."""
        remarks = [_words(error)]
        told = self.revision.phase is Phase.PUBLISHED and self.revision.reconfigure
        try:
            if told:
                self.step("look at the jobs before going back")
                refusal = self._refusal_to_go_back(remarks)
                if refusal:
                    self._close(Result.KEPT, *remarks, refusal)
                    return
            published = self.revision.phase is not Phase.PREPARED
            edited = self._restore() if published else []
            if edited:
                remarks.append(f"changed by somebody else since, and left alone: {', '.join(edited)}")
            if told:
                self.step("reconfigure with the files from before")
                self._tell_back(remarks)
            self._close(Result.RESTORED, *remarks)
        except OSError as failure:
            raise OperationFailed(
                f"{'; '.join(remarks)}; going back did not complete either: {_words(failure)}",
                hint="mend the disk; the next hpadmin config apply tries again. "
                f"The files from before are in {self.history.copies(self.revision)}",
            ) from error

    def _refusal_to_go_back(self, remarks: list[str]) -> str:
        try:
            self.service.check_jobs_back()
        except JobsAtStake as stake:
            return stake.message
        except OperationFailed as failure:
            # A Slurm that does not answer cannot be asked; what it starts with next must be what worked.
            remarks.append(failure.message)
        return ""

    def _tell_back(self, remarks: list[str]) -> None:
        try:
            self.service.reconfigure()
            remarks += self.service.verify_back().remarks
        except OperationFailed as failure:
            remarks.append(f"Slurm could not be told: {failure.message}")

    def _restore(self) -> list[str]:
        """Put back every file that is as we published it; return the names of those that are neither old nor new."""
        before = self.history.before(self.revision)
        edited = []
        for record in reversed(self.revision.files):
            path = self._path(record)
            digest = self._digest(record)
            if digest not in (record.before, record.after):
                edited.append(record.name)
            elif digest != record.before:
                self.step(f"restore {record.name}")
                if record.before is None:
                    atomic.remove(path)
                elif record.link:
                    atomic.make_link(path, record.link)
                elif not atomic.bring_back(path, record.before):
                    atomic.stage(path, before[record.name], mode=record.mode, uid=record.uid, gid=record.gid)
                    atomic.publish(path)
        return edited

    def _close(self, result: Result, *remarks: str, waiting_nodes: tuple[str, ...] = ()) -> Revision:
        """Open the fence, tidy up, close the record."""
        said = list(remarks)
        left = False
        told = self.revision.reconfigure and self.revision.phase is Phase.PUBLISHED
        if told or self.revision.fence:
            self.step("open the fence")
            try:
                self.service.reopen(self.revision.fence)
            except OperationFailed as error:
                left = True
                said.append(f"what was closed to new jobs is opened by the next run: {error.message}")
        self.step("tidy up")
        for record in self.revision.files:
            atomic.tidy(self._path(record))
        self.step("close the record")
        return self._note(
            phase=Phase.DONE,
            result=result,
            finished=now(),
            waiting_nodes=waiting_nodes,
            fence_left=left,
            detail="; ".join(said),
        )

    def _is_published(self) -> bool:
        return all(self._digest(record) == record.after for record in self.revision.files)

    def _digest(self, record: FileRecord) -> str | None:
        found = atomic.read(self._path(record))
        return found.digest if found else None

    def _failure(self, error: BaseException) -> OperationFailed:
        if self.revision.result is Result.KEPT:
            state = "the new files stay in place, as going back would end jobs"
        else:
            state = "the files from before are in place"
        return OperationFailed(
            f"{self.revision.detail or _words(error)} ({state})", hint=getattr(error, "hint", "")
        )

    def _path(self, record: FileRecord) -> Path:
        return self.history.conf_dir / record.name

    def _note(self, **changes: Any) -> Revision:
        self.revision = dataclasses.replace(self.revision, **changes)
        return self.history.update(self.revision)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be written: {error.strerror or error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return getattr(error, "message", "") or str(error) or type(error).__name__
