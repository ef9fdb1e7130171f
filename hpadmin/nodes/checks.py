"""The checks of a node: facts are gathered in one place, judged in another, and the judges are pure.

facts = gather(expected, log_state)                      # at once: only what can be looked at
facts = ask_tools(expected, facts, Local(), seconds=45)  # what programs tell
findings = judge(expected, facts)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpadmin.errors import OperationFailed
from hpadmin.nodes import external
from hpadmin.nodes.faults import Finding, finding, gravest, kernel_findings
from hpadmin.nodes.healthconf import Expected
from hpadmin.slurm.command import Runner

LOG = "/var/log/kern.log"
KMSG = "/dev/kmsg"
"""The kernel's own ring of lines since the boot. They are not looked for in messages or syslog: there a user's
logger(1) writes lines that look like the kernel's."""
_PLACE_SECONDS = 5.0
"""All directories together have so long to answer."""
_MUCH = 16 << 20
"""Bytes of a log that are read at a time."""
_SMI_SECONDS = 20.0
"""nvidia-smi answers within a few seconds, also where it must first load the driver for eight GPUs."""
_SMI_QUERY = "--query-remapped-rows=gpu_bus_id,remapped_rows.pending,remapped_rows.failure"


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far the kernel log has been read: a file's inode and offset, or the last sequence number of /dev/kmsg."""

    path: str = ""
    inode: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. None means that it could not be found out, which is no fault but is told."""

    devices: int | None = None
    efa: int | None = None
    kernel_lines: tuple[str, ...] = ()
    log_position: LogPosition = LogPosition()
    mounted: Mapping[str, bool] = field(default_factory=dict)
    free: Mapping[str, float | None] = field(default_factory=dict)
    """Directory to per cent free; None where it is not there."""
    read_only: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    """Directories that did not answer in time: their server is gone, or their disk."""
    clock_synchronised: bool | None = None
    smi_gpus: int | None = None
    smi_error: str = ""
    remap: tuple[tuple[str, bool, bool], ...] = ()
    """(device, a row waits for a reset, a row could not be remapped)."""
    neuron_ecc: Mapping[str, int] = field(default_factory=dict)
    """Neuron device to its uncorrectable memory errors."""
    external: tuple[Finding, ...] = ()


def gather(expected: Expected, position: LogPosition | None) -> Facts:
    """Look at this host, without running its tools. `position` is where the kernel log was left; None to begin."""
    lines, reached = read_kernel_log(expected.kernel_log, position)
    places = look_at({*expected.mounts, *expected.disks})
    seen = {place: found for place, found in places.items() if found is not None}
    return Facts(
        devices=len(glob.glob(expected.devices)) if expected.devices else None,  # noqa: PTH207 - a pattern with its root
        efa=_entries("/sys/class/infiniband"),
        kernel_lines=lines,
        log_position=reached,
        mounted={place: seen[place][0] for place in expected.mounts if place in seen},
        free={place: seen[place][1] for place in expected.disks if place in seen},
        read_only=tuple(place for place in expected.disks if place in seen and seen[place][2]),
        silent=tuple(sorted(places.keys() - seen.keys())),
        clock_synchronised=_clock_synchronised() if expected.clock else None,
        neuron_ecc=_neuron_ecc() if expected.kind == "neuron" else {},
    )


def ask_tools(
    expected: Expected,
    facts: Facts,
    runner: Runner,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Facts:
    """Run nvidia-smi and the site's own checkers, one after the other, and add what they say; `seconds` are for all."""
    end = clock() + seconds
    if expected.kind == "gpu" and expected.nvidia_smi and shutil.which("nvidia-smi"):
        facts = _ask_nvidia_smi(facts, runner, seconds)
    found: list[Finding] = []
    for check in expected.externals:
        found += external.run(check, runner, left=end - clock())
    return replace(facts, external=tuple(found))


def judge(expected: Expected, facts: Facts) -> tuple[Finding, ...]:
    """Return what is wrong, gravest first. Pure."""
    found = [*_devices(expected, facts), *_system(expected, facts), *facts.external]
    chosen = [
        replace(each, action=expected.actions[each.code]) if each.code in expected.actions else each
        for each in found
    ]
    chosen += kernel_findings(facts.kernel_lines, expected.actions)
    return tuple(sorted(chosen, key=lambda each: -each.action.gravity))


def _devices(expected: Expected, facts: Facts) -> Iterator[Finding]:
    count = "neuron-count" if expected.kind == "neuron" else "gpu-count"
    wanted = expected.accelerators
    if wanted and facts.devices is not None and facts.devices < wanted:
        yield finding(count, f"{facts.devices} of {wanted} devices")
    if facts.smi_error:
        yield finding("gpu-silent", facts.smi_error)
    elif wanted and facts.smi_gpus is not None and facts.smi_gpus < wanted:
        yield finding(count, f"nvidia-smi shows {facts.smi_gpus} of {wanted} GPUs")
    for device, pending, failure in facts.remap:
        if failure:
            yield finding("row-remap-failed", device)
        elif pending:
            yield finding("row-remap-pending", device)
    for device, errors in facts.neuron_ecc.items():
        if errors:
            yield finding("neuron-ecc", f"{device}: {errors} errors")
    if expected.efa and facts.efa is not None and facts.efa < expected.efa:
        yield finding("efa-count", f"{facts.efa} of {expected.efa} interfaces")


def _system(expected: Expected, facts: Facts) -> Iterator[Finding]:
    for place, mounted in facts.mounted.items():
        if not mounted:
            yield finding("filesystem", f"{place} is not mounted")
    for place, free in facts.free.items():
        if free is None:
            yield finding("filesystem", f"{place} is not there")
        elif free < expected.disks.get(place, 0):
            yield finding("disk-full", f"{place}: {free:.1f} % free")
    for place in facts.read_only:
        yield finding("disk-read-only", place)
    for place in facts.silent:
        yield finding("filesystem", f"{place} does not answer")
    if facts.clock_synchronised is False:
        yield finding("clock", "the kernel says that its clock is not synchronised")


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return the finding that decides what happens to the node; None for a healthy node."""
    return gravest(findings)


# --- gathering ---------------------------------------------------------------------------------------------------


def read_kernel_log(wanted: str, position: LogPosition | None) -> tuple[tuple[str, ...], LogPosition]:
    """Return the kernel's lines after `position` and the new position.

    A first look at a file begins at its end, as older lines may be of another boot, and takes those of this one from
    /dev/kmsg, where that can be read. A log that cannot be read gives nothing.
    """
    path = _log_path(wanted)
    if not path:
        return (), LogPosition()
    if path == KMSG:
        return _read_kmsg(position)
    try:
        lines, reached = _read_log_file(path, position)
    except OSError:
        return (), LogPosition()
    return (lines if position is not None else _read_kmsg(None)[0]), reached


def _log_path(wanted: str) -> str:
    if wanted != "auto":
        return "" if wanted == "none" else wanted
    return next((path for path in (LOG, KMSG) if os.access(path, os.R_OK)), "")


def _read_log_file(path: str, position: LogPosition | None) -> tuple[tuple[str, ...], LogPosition]:
    with Path(path).open("rb") as log:
        stat = os.fstat(log.fileno())
        if position is None or position.path not in (path, ""):
            return (), LogPosition(path, stat.st_ino, stat.st_size)
        if not position.path:  # there was no log at the last look: all of it is new
            position = LogPosition(path, stat.st_ino, 0)
        before = _rest_of_rotated(path, position) if position.inode != stat.st_ino else b""
        rotated = position.inode != stat.st_ino or position.offset > stat.st_size
        log.seek(0 if rotated else position.offset)
        data = log.read(_MUCH)
        # The last line may be half written: it is left for the next look.
        whole = data[: data.rfind(b"\n") + 1]
        reached = (0 if rotated else position.offset) + len(whole)
        lines = (before + whole).decode("utf-8", "replace").splitlines()
        return tuple(lines), LogPosition(path, stat.st_ino, reached)


def _rest_of_rotated(path: str, position: LogPosition) -> bytes:
    """What was written to the log after the last look and before logrotate(8) gave it another name."""
    try:
        with Path(f"{path}.1").open("rb") as log:
            if os.fstat(log.fileno()).st_ino != position.inode:
                return b""
            log.seek(position.offset)
            return log.read(_MUCH)
    except OSError:
        return b""


def _read_kmsg(position: LogPosition | None) -> tuple[tuple[str, ...], LogPosition]:
    """Records are ``priority,sequence,microseconds,flags;text`` (Documentation/ABI/testing/dev-kmsg)."""
    last = position.offset if position is not None and position.path == KMSG else -1
    lines: list[str] = []
    try:
        handle = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return (), LogPosition()
    try:
        while True:
            try:
                record = os.read(handle, 8192)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten while we read: go on with the next
                    continue
                return (), LogPosition()
            head, _, text = record.partition(b";")
            sequence = int(head.split(b",")[1])
            if sequence > last:
                last = sequence
                lines.append(text.split(b"\n", 1)[0].decode("utf-8", "replace"))
    finally:
        os.close(handle)
    return tuple(lines), LogPosition(KMSG, 0, last)


def _entries(folder: str) -> int | None:
    try:
        return len(os.listdir(folder))  # noqa: PTH208 - counted only
    except OSError:
        return None


def look_at(
    places: Iterable[str], *, seconds: float = _PLACE_SECONDS
) -> dict[str, tuple[bool, float | None, bool | None] | None]:
    """Return what `hpadmin.nodes.place.look` tells of each directory; None for one that does not answer in time."""
    argv = [sys.executable, "-ISB", str(Path(__file__).with_name("place.py"))]
    looking = {
        place: subprocess.Popen([*argv, place], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for place in places
    }
    end = time.monotonic() + seconds
    found: dict[str, tuple[bool, float | None, bool | None] | None] = {}
    for place, process in looking.items():
        try:
            said, _ = process.communicate(timeout=max(0.0, end - time.monotonic()))
            found[place] = tuple(json.loads(said))
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()  # not waited for: what hangs in the kernel may not even die
            found[place] = None
    return found


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` (adjtimex(2)); the rest is room that the kernel may write."""

    _fields_ = (("modes", ctypes.c_uint), ("room", ctypes.c_byte * 508))


_TIME_ERROR = 5


def _clock_synchronised() -> bool | None:
    """What adjtimex(2) says; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _neuron_ecc() -> dict[str, int]:
    """Uncorrectable SRAM and memory errors, as the Neuron driver counts them in sysfs."""
    errors: dict[str, int] = {}
    for counter in Path("/sys/devices/virtual/neuron_device").glob("neuron*/stats/hardware/*ecc_uncorrected"):
        with contextlib.suppress(OSError, ValueError):
            device = counter.parts[5]
            errors[device] = errors.get(device, 0) + int(counter.read_text().split()[0])
    return errors


def _ask_nvidia_smi(facts: Facts, runner: Runner, seconds: float) -> Facts:
    timeout = min(_SMI_SECONDS, seconds / 2)
    try:
        listed = runner.run(["nvidia-smi", "-L"], timeout=timeout)
    except OperationFailed as error:
        return replace(facts, smi_error=error.message)
    if listed.returncode != 0:
        return replace(
            facts, smi_error=f"nvidia-smi exited {listed.returncode}: {listed.stdout.strip()[:200]}"
        )
    gpus = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    with contextlib.suppress(OperationFailed):
        rows = runner.run(["nvidia-smi", _SMI_QUERY, "--format=csv,noheader,nounits"], timeout=timeout)
        if rows.returncode == 0:
            return replace(facts, smi_gpus=gpus, remap=tuple(_remapped(rows.stdout)))
    return replace(facts, smi_gpus=gpus)


def _remapped(text: str) -> Iterator[tuple[str, bool, bool]]:
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3:
            yield words[0], words[1] in ("1", "Yes"), words[2] in ("1", "Yes")
