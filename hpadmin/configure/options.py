"""What a site decides about its Slurm beyond the request: release, directories, plugins, devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How the files are rendered. The defaults suit a production cluster with systemd, munge and cgroups."""

    release: str = "24.11"
    """Slurm release of the cluster, as ``24.11`` or ``25.11.2``."""
    process_tracking: Literal["cgroup", "linuxproc"] = "cgroup"
    """``cgroup`` confines jobs to their cores, memory and devices; ``linuxproc`` is for containers and for
    AWS's own auto-resume plugin, which refuses any TaskPlugin but task/none."""
    auth: Literal["munge", "slurm"] = "munge"
    """``slurm`` is auth/slurm: a ``slurm.key`` beside slurm.conf instead of munge."""
    config_overrides: bool = False
    """Let the configured hardware count instead of what a node finds: small machines stand in for large ones.
    Slurm makes no such exception for GRES (src/interfaces/gres.c)."""
    return_to_service: Literal[0, 1, 2] = 2
    """slurm.conf(5) ReturnToService. HyperPod writes 1; 2 is needed for a node that comes back within a running
    job. Whoever wants to keep a node out must drain or fail it: down does not last."""
    spares: int = 0
    """Nodes of a full UltraServer that are kept out of the planning block: 1 gives blocks of 17."""
    block_sizes: tuple[int, ...] | None = None
    """BlockSizes, when other than inferred from the UltraServers."""
    gpu_autodetect: Literal["nvml", "nvidia"] = "nvml"
    """How slurmd finds NVIDIA devices: ``nvml`` needs Slurm's NVML plugin, ``nvidia`` (24.11 and later) no library."""
    device_prefix: str | None = None
    """When set, devices are not detected but listed for all groups: ``/dev/fakegpu`` stands for
    ``/dev/fakegpu[0-7]`` on a node with eight."""
    device_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Explicit device files of single groups, in order; their number must be that of the instance type's devices."""
    slurm_user: str = "slurm"
    state_directory: str = "/var/spool/slurmctld"
    spool_directory: str = "/var/spool/slurmd"
    log_directory: str = "/var/log/slurm"
    reboot_program: str | None = "/usr/bin/systemctl reboot"
    """RebootProgram of slurm.conf; None leaves it out."""
    mail_program: str | None = None
    """MailProg of slurm.conf; None leaves Slurm's default, /bin/mail, which slurmctld reports where it is missing."""
    spank_plugins: tuple[str, ...] = ()
    """Lines of plugstack.conf, such as ``optional /opt/slurm/lib/auto_resume.so``."""
    prolog: str | None = None
    """Prolog of every job; a name without a path lies beside slurm.conf and reaches the nodes with it."""
    epilog: str | None = None
    """Epilog of every job, as `prolog`."""
    health_check_program: str | None = None
    health_check_interval: int = 300
    """Seconds between two runs of `health_check_program` on a node."""
    private_data: tuple[str, ...] = ()
    """What users see of themselves alone: words of slurm.conf(5) PrivateData, such as ``jobs`` and ``usage``."""
    jwt: bool = False
    """Let clients show tokens (auth/jwt), as those of slurmrestd do; the key is ``jwt_hs256.key`` in
    `state_directory`, readable by SlurmUser alone."""
    submission_checks: bool = False
    """Refuse jobs at submission whose segments no block can ever hold; Slurm must have been built with Lua."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of slurm.conf, such as ``TaskProlog``; none of those that are rendered anyway. Those that
    hold a list of parameters (``SchedulerParameters``) add to what is rendered."""
    accounting: bool = False
    """Ask for accounting with a database on the controller, also when the request names no external one."""
    storage_user: str = "slurm"
    storage_password: str | None = field(default=None, repr=False)
    """Password of the accounting database; None when MariaDB knows the user by the local socket."""
    storage_ca: str | None = None
    """File with the authorities' certificates that an external database's own is checked against (slurmdbd.conf(5),
    StorageParameters SSL_CA); None leaves it to the client library, whether and how it uses TLS."""


CONTAINER = RenderOptions(
    process_tracking="linuxproc",
    config_overrides=True,
    device_prefix="/dev/fakegpu",
    reboot_program=None,
    mail_program="/bin/true",
)
"""For nodes that are small containers without systemd, control groups and mail, with device files for GPUs."""
