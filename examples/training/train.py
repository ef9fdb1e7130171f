#!/usr/bin/env python3
"""A small real training: data-parallel linear regression over several nodes, with checkpoints (numpy).

    srun --auto-resume=1 python3 train.py --folder /fsx/me/run1 --steps 200

Every rank computes the gradient of its shard, rank 0 adds them up in the order of the ranks, moves the weights
and hands them out again. After each step rank 0 writes a checkpoint: weights, the number of the step, and a ledger
of the steps done. The file is replaced as a whole, so that at any moment it holds exactly what was done. Each start
writes into a folder of its own: a machine that hung may wake up when others have taken over long ago, and what its
processes write then must not be what the next start reads.

Started again, all ranks go on from the checkpoint. So the end is the same, bit for bit, however often nodes were
lost on the way. That no step is missing and none was done twice is checked by doing them all again in one process:

    python3 train.py --folder /fsx/me/run1 --steps 200 --verify

What a real training has to take over from here: find peers anew in every start (node names change when nodes are
replaced), load the newest checkpoint at the start, write it atomically and where no earlier start writes, and let
errors end the program.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

FEATURES, ROWS_OF_A_RANK = 64, 256


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")
    sys.stdout.flush()


def shard(rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the data of a rank: the same in every run."""
    random = np.random.default_rng(rank)
    inputs = random.normal(size=(ROWS_OF_A_RANK, FEATURES))
    truth = np.random.default_rng(4711).normal(size=FEATURES)
    return inputs, inputs @ truth + 0.01 * random.normal(size=ROWS_OF_A_RANK)


def gradient(weights: np.ndarray, data: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the gradient of the squared error."""
    inputs, targets = data
    residual: np.ndarray = inputs @ weights - targets
    return np.asarray(inputs.T @ residual / len(targets))


def move(weights: np.ndarray, gradients: Iterable[np.ndarray], ranks: int) -> np.ndarray:
    """Return the weights after a step. The order of the gradients counts: sums of floats depend on it."""
    total = np.zeros(FEATURES)
    for each in gradients:
        total = total + each
    return np.asarray(weights - 0.05 * total / ranks)


def identity(environment: Mapping[str, str]) -> str:
    """Name this start so that a later one has the greater name: all ranks of one start give it the same.

    The time when the job's run began tells its runs apart, also one that Slurm forgot and started anew with the same
    count of restarts; within a run each start is a step of its own.
    """
    parts = ("JOB_START_TIME", "JOB_ID", "RESTART_COUNT", "STEP_ID")
    return "-".join(f"{int(environment.get(f'SLURM_{part}', '0')):010d}" for part in parts)


class Checkpoint:
    """The newest state: one file a start, ``start-…/checkpoint.npz``; that of the latest start counts.

    Which start is the latest is a matter of its name (`identity`), not of when it came here: one that hung may wake up
    when others have taken over, at any point of what follows.
    """

    def __init__(self, folder: Path, start: str = "") -> None:
        self.folder = folder
        self.path = folder / f"start-{start}" / "checkpoint.npz"

    def load(self) -> tuple[np.ndarray, list[int], int]:
        """Return weights, ledger and the number of ranks; those of the beginning where nothing was saved yet."""
        saved = sorted(self.folder.glob("start-*/checkpoint.npz"))
        if not saved:
            return np.zeros(FEATURES), [], 0
        with np.load(saved[-1]) as newest:
            return newest["weights"], newest["ledger"].tolist(), int(newest["ranks"])

    def save(self, weights: np.ndarray, ledger: list[int], ranks: int) -> None:
        """Replace the state. It is on disk, whole, before anybody can see it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new.npz")
        with fresh.open("wb") as file:
            np.savez(file, weights=weights, ledger=np.array(ledger, dtype=np.int64), ranks=ranks)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)


def send(peer: socket.socket, numbers: np.ndarray) -> None:
    data = numbers.astype("<f8").tobytes()
    peer.sendall(struct.pack("<q", len(data)) + data)


def receive(peer: socket.socket) -> np.ndarray:
    (length,) = struct.unpack("<q", exactly(peer, 8))
    return np.frombuffer(exactly(peer, length), dtype="<f8")


def exactly(peer: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = peer.recv(count - len(parts))
        if not part:
            raise ConnectionError("a peer went away")
        parts += part
    return parts


def own_address() -> str:
    """Return the address by which the other nodes reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"), 9))
        return str(probe.getsockname()[0])


def lead(checkpoint: Checkpoint, meeting: Path, ranks: int, steps: int, pause: float) -> None:
    """Be rank 0: collect gradients, move the weights, save, hand out."""
    weights, ledger, _ = checkpoint.load()
    checkpoint.save(weights, ledger, ranks)  # from here on nothing that an earlier start still writes is read
    with socket.create_server((own_address(), 0)) as server:
        address, port = server.getsockname()
        fresh = meeting.with_suffix(".new")
        fresh.write_text(f"{address} {port}")
        fresh.replace(meeting)
        peers: dict[int, socket.socket] = {}
        while len(peers) < ranks - 1:
            peer, _ = server.accept()
            (rank,) = struct.unpack("<q", exactly(peer, 8))
            peers[rank] = peer
    count = os.environ.get("HPADMIN_RESUME_COUNT", "0")
    say(f"start {count}: {ranks} ranks, going on at step {len(ledger)}")
    data = shard(0)
    for peer in peers.values():
        send(peer, np.array([len(ledger)], dtype=float))
    for step in range(len(ledger), steps):
        for peer in peers.values():
            send(peer, weights)
        own = gradient(weights, data)
        weights = move(weights, [own, *(receive(peers[rank]) for rank in sorted(peers))], ranks)
        ledger.append(step)
        checkpoint.save(weights, ledger, ranks)
        if len(ledger) % 10 == 0:
            say(f"step {len(ledger)} of {steps}")
        if pause:
            time.sleep(pause)
    say(f"done: {steps} steps, {digest(weights)}")


def follow(meeting: Path, rank: int, steps: int) -> None:
    """Be another rank: compute what rank 0 asks for."""
    while not meeting.exists():
        time.sleep(0.1)
    address, port = meeting.read_text().split()
    data = shard(rank)
    with socket.create_connection((address, int(port))) as leader:
        leader.sendall(struct.pack("<q", rank))
        begin = int(receive(leader)[0])
        for _ in range(begin, steps):
            send(leader, gradient(receive(leader), data))


def digest(weights: np.ndarray) -> str:
    return hashlib.sha256(weights.astype("<f8").tobytes()).hexdigest()[:16]


def alone(ranks: int, steps: int) -> np.ndarray:
    """Train in this process alone, and return the weights."""
    weights, shards = np.zeros(FEATURES), [shard(rank) for rank in range(ranks)]
    for _ in range(steps):
        weights = move(weights, [gradient(weights, data) for data in shards], ranks)
    return weights


def verify(folder: Path, steps: int) -> int:
    """Check that every step was done once, and print what identifies the result."""
    weights, ledger, ranks = Checkpoint(folder).load()
    if ledger != list(range(steps)):
        sys.stdout.write(
            f"the ledger is wrong: {len(ledger)} of {steps} steps, {len(set(ledger))} different\n"
        )
        return 1
    expected = alone(ranks, steps)
    if digest(weights) != digest(expected):
        distance = float(np.max(np.abs(weights - expected)))
        sys.stdout.write(f"the weights are not those of {steps} steps, each done once: off by {distance:g}\n")
        return 1
    sys.stdout.write(f"{digest(weights)}\n")
    return 0


def main() -> int:
    """Train, as the rank that Slurm says."""
    parser = argparse.ArgumentParser(description="Data-parallel training that can be started again.")
    parser.add_argument("--folder", type=Path, required=True, help="shared by all nodes")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two steps")
    parser.add_argument("--verify", action="store_true", help="check the result instead of training")
    given = parser.parse_args()
    if given.verify:
        return verify(given.folder, given.steps)
    rank, ranks = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))
    given.folder.mkdir(parents=True, exist_ok=True)
    start = identity(os.environ)
    meeting = given.folder / f"meeting-{start}"
    if rank == 0:
        lead(Checkpoint(given.folder, start), meeting, ranks, given.steps, given.pause)
    else:
        follow(meeting, rank, given.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
