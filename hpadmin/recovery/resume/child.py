"""srun as the supervisor's child: started, signalled, waited for, as if the supervisor were not in between.

Terminals and process groups: with a controlling terminal the child stays in our process group, so that the
terminal treats both as one job (Ctrl-C and Ctrl-Z reach srun directly, and are not passed on a second time).
Without one it gets a group of its own and every signal that arrives here is passed on, once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSED_ON = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGPIPE,
        signal.SIGCONT,
    }
)
"""What srun itself takes (src/srun/srun_job.c, `_srun_signal_mgr`)."""
ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE})
"""Somebody who sends one of these wants the step to end: it is not started again."""
INTERRUPT_SECONDS = 1.2
"""The first SIGINT only makes srun tell its state, a second one within a second ends the step."""

_WATCHED = PASSED_ON | {signal.SIGCHLD}
_SI_USER, _SI_QUEUE, _SI_TKILL = 0, -1, -6  # asm-generic/siginfo.h: sent by a process, not by the terminal
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Signal(ctypes.Structure):
    """``siginfo_t`` of a signal that a process sent, on 64-bit Linux (sigaction(2))."""

    _fields_ = (
        ("si_signo", ctypes.c_int),
        ("si_errno", ctypes.c_int),
        ("si_code", ctypes.c_int),
        ("_aligned", ctypes.c_int),
        ("si_pid", ctypes.c_int),
        ("_rest", ctypes.c_char * 108),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def _await(signals: Iterable[signal.Signals], seconds: float) -> _Signal | None:
    """Return the next of `signals`, which are blocked; None after `seconds`, or sooner where we were stopped meanwhile.

    Python's own `signal.sigtimedwait` returns what it never filled in when a stop has outlasted the time (it leaves its
    loop after EINTR, Modules/signalmodule.c): Ctrl-Z and a job that is suspended do that.
    """
    mask = sum(1 << (number - 1) for number in signals)
    wanted = (ctypes.c_uint64 * 16)(mask)  # as large as a sigset_t
    limit = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
    got = _Signal()
    return got if _LIBC.sigtimedwait(wanted, ctypes.byref(got), limit) > 0 else None


def block_signals() -> None:
    """Hold the signals that `Child.wait` takes: from here on none of them can be missed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)


def has_terminal() -> bool:
    """Tell whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


@dataclass
class Child:
    """One run of srun."""

    process: subprocess.Popen[bytes]
    shares_terminal: bool
    ended_by_user: bool = False
    """Somebody sent us a signal of `ENDING` while it ran."""
    interrupts_at_once: bool = False
    """A single SIGINT reaches the tasks: ``--quit-on-interrupt`` or ``--disable-status``."""
    _interrupted: float = field(default=float("-inf"), repr=False)

    @staticmethod
    def start(
        program: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        folder: str,
        keep: Iterable[int] = (),
        *,
        interrupts_at_once: bool = False,
    ) -> Child:
        """Start `program` with exactly `argv` and `env` in `folder`; descriptors in `keep` stay open in it.

        Should this process be killed, srun gets SIGTERM and cancels its step.
        """
        terminal = has_terminal()
        parent = os.getpid()

        def prepare() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

        # One thread only: what preexec_fn does is safe between fork and exec.
        process = subprocess.Popen(
            list(argv),
            executable=program,
            env=dict(env),
            cwd=folder,
            pass_fds=tuple(keep),
            process_group=None if terminal else 0,
            preexec_fn=prepare,
            restore_signals=True,
        )
        return Child(process, terminal, interrupts_at_once=interrupts_at_once)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, seconds: float) -> int | None:
        """Pass signals on until the child ends or `seconds` are over; return its status as `Popen.returncode`."""
        got = _await(_WATCHED, max(0.0, seconds))
        if got is not None:
            self._take(got)
        return self.process.poll()

    def outlasts(self, seconds: float) -> bool:
        """Wait so long and pass signals on; False as soon as the child has ended, or somebody wants it to end.

        Ends of other processes of ours do not shorten it.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self.wait(deadline - time.monotonic()) is not None or self.ended_by_user:
                return False
            if time.monotonic() >= deadline:
                return True

    def _take(self, got: _Signal) -> None:
        number = signal.Signals(got.si_signo)
        if number not in PASSED_ON or got.si_pid == os.getpid():  # our own SIGPIPE: nobody reads what we say
            return
        if number is signal.SIGINT:
            now = time.monotonic()
            self.ended_by_user |= self.interrupts_at_once or now - self._interrupted < INTERRUPT_SECONDS
            self._interrupted = now
        elif number in ENDING:
            self.ended_by_user = True
        from_terminal = got.si_code not in (_SI_USER, _SI_QUEUE, _SI_TKILL)
        # A shell that continues a job tells its whole process group.
        if not (self.shares_terminal and (from_terminal or number is signal.SIGCONT)):
            self.send(number)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to srun; nothing happens when it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> int:
        """End srun by force, and return its status. What it leaves behind (`silence`) ends its step."""
        self.send(signal.SIGKILL)
        return self.process.wait()

    def silence(self) -> int:
        """End srun without a last word to its step, and return its status.

        srun has a child that waits for srun's death and then has slurmctld kill the step, by job and number
        (`_shepherd_spawn`, src/srun/srun_job.c). It goes first.
        """
        for pid in children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self.kill()


def children(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes that `pid` started and that live (proc_pid_stat(5))."""
    found = []
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return found


def take_signal(seconds: float) -> signal.Signals | None:
    """Wait for a signal while no child runs; return it, or None after `seconds`."""
    got = _await(PASSED_ON, max(0.0, seconds))
    return None if got is None or got.si_pid == os.getpid() else signal.Signals(got.si_signo)


def end_like(status: int) -> int:
    """Return the exit code for a child's status, or die of the very signal that it died of."""
    if status >= 0:
        return status
    number = signal.Signals(-status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # SIGKILL and SIGSTOP have no handler to reset
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 - status


@dataclass(frozen=True)
class Terminal:
    """The terminal's settings before srun changed them (``--pty`` makes it raw)."""

    settings: list[Any] | None

    @staticmethod
    def remember() -> Terminal:
        try:
            return Terminal(termios.tcgetattr(0))
        except (termios.error, OSError):
            return Terminal(None)

    def restore(self) -> None:
        """Put the settings back: an srun that was killed leaves a raw terminal behind."""
        if self.settings is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(0, termios.TCSADRAIN, self.settings)


def stdin_offset() -> int | None:
    """Return where standard input stands when it is a file that can be read again."""
    try:
        return os.lseek(0, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(0).st_mode) else None
    except OSError:
        return None


def rewind_stdin(offset: int | None) -> bool:
    """Make standard input readable from its start again; False where what was read is gone."""
    try:
        if offset is not None:
            os.lseek(0, offset, os.SEEK_SET)
            return True
        mode = os.fstat(0).st_mode
    except OSError:
        return True
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
