"""What Slurm takes for a node's hardware when the configuration does not say everything.

The rules are those of ``_parse_nodename`` (``src/common/read_config.c``, Slurm 24.11); slurm.conf(5) tells
them in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hpadmin.slurmconf.records import Node, Record
from hpadmin.slurmconf.values import number

_LARGEST_16 = 0xFFFF


@dataclass(frozen=True, slots=True)
class NodeHardware:
    """A node's hardware as slurmctld holds it, whatever the node itself finds later. Memory and disk in MiB."""

    boards: int
    sockets: int
    """Of all boards."""
    cores_per_socket: int
    threads_per_core: int
    cpus: int
    memory: int
    tmp_disk: int
    weight: int
    complaints: tuple[str, ...] = ()
    """What slurmctld logs as an error and then corrects."""


def hardware(record: Record | Node) -> NodeHardware:
    """Return the hardware of a node, or of all nodes of a NodeName record.

    A value that is no number, which Slurm's parser refuses, counts as not given.
    """
    return _Reading(record.record if isinstance(record, Node) else record).result()


class _Reading:
    def __init__(self, record: Record) -> None:
        self.record = record
        self.complaints: list[str] = []

    def _get(self, key: str) -> int | None:
        text = self.record.get(key)
        found = number(text) if text else None
        if found is None:
            return None
        return _LARGEST_16 if found == float("inf") else int(found)

    def _at_least_one(self, key: str, default: int = 1) -> int:
        found = self._get(key)
        if found == 0:
            self.complaints.append(f"{key}=0 is invalid, reset to 1")
            return 1
        return default if found is None else found

    def result(self) -> NodeHardware:
        cores = self._at_least_one("CoresPerSocket")
        threads = self._at_least_one("ThreadsPerCore")
        given_cpus = self._get("CPUs")
        cpus = self._at_least_one("CPUs")
        boards = self._at_least_one("Boards")
        sockets = self._sockets(boards, cores, threads, cpus if given_cpus is not None else None)
        if given_cpus is None:
            cpus = sockets * cores * threads
        if sockets < boards:
            self.complaints.append(f"Sockets({sockets}) < Boards({boards}) resetting Boards=1")
            boards = 1
        if cpus not in (sockets, sockets * cores, sockets * cores * threads):
            self.complaints.append(
                f"CPUs={cpus} match no Sockets, Sockets*CoresPerSocket or Sockets*CoresPerSocket*ThreadsPerCore. "
                "Resetting CPUs."
            )
            cpus = sockets * cores * threads
        memory, disk, weight = self._get("RealMemory"), self._get("TmpDisk"), self._get("Weight")
        return NodeHardware(
            boards=boards,
            sockets=sockets,
            cores_per_socket=cores,
            threads_per_core=threads,
            cpus=cpus,
            memory=1 if memory is None else memory,
            tmp_disk=0 if disk is None else disk,
            weight=1 if weight is None else weight,
            complaints=tuple(self._all_complaints()),
        )

    def _sockets(self, boards: int, cores: int, threads: int, cpus: int | None) -> int:
        """Return the sockets of all boards: as given, by board, or inferred from the CPUs."""
        per_board = self._get("SocketsPerBoard")
        given = self._get("Sockets")
        if per_board is not None:
            if given is not None:
                self.complaints.append("Sockets=# and SocketsPerBoard=# is invalid, using SocketsPerBoard")
            return boards * self._at_least_one("SocketsPerBoard")
        if given is not None:
            return self._at_least_one("Sockets")
        if cpus is not None and cpus >= cores * threads and cpus % (cores * threads) == 0:
            return cpus // (cores * threads)
        return boards

    def _all_complaints(self) -> Iterator[str]:
        """Yield each complaint once, with the nodes that it is about."""
        for text in dict.fromkeys(self.complaints):
            yield f"NodeNames={self.record.name} {text}"
