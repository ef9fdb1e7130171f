"""System V scripts for daemons that have none, or whose packaged one insists on a local slurm.conf.

Debian's script for slurmd refuses to start without /etc/slurm/slurm.conf, which a configless node does not have;
for sackd there is no script at all. Hosts with systemd need none of this: their units take the options from the
same files in /etc/default.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Daemon:
    """What a script has to know of a daemon. It goes to the background by itself, unless said."""

    name: str
    executable: str
    description: str
    user: str = "root"
    prepare: str = ""
    """A command before the start."""
    requires: str = ""
    """Services that must run before."""
    background: str = ""
    """Log file of a daemon that stays in the foreground and is put into the background."""
    environment: str = ""
    """Assignments for its environment."""

    @property
    def options_variable(self) -> str:
        """Variable of /etc/default/<name> with the daemon's arguments."""
        return f"{self.name.upper().replace('-', '_')}_OPTIONS"


SLURMD = Daemon(
    "slurmd", "/usr/sbin/slurmd", "Slurm node daemon, configured by its controller", requires="munge"
)
SACKD = Daemon(
    "sackd",
    "/usr/sbin/sackd",
    "Slurm client configuration and credentials, from the controller",
    user="slurm",
    prepare="install -d -o slurm -g slurm /run/slurm",
)

RESTD = Daemon(
    "slurmrestd",
    "/usr/sbin/slurmrestd",
    "Slurm's REST interface, for clients with tokens",
    user="slurmrest",
    prepare="install -o slurmrest -m 600 /dev/null /var/log/slurm/slurmrestd.log",
    requires="munge",
    background="/var/log/slurm/slurmrestd.log",
    environment="SLURM_JWT=daemon",
)

AGENT = Daemon(
    "hpadmin-agent",
    "/opt/hpadmin/bin/hpadmin",
    "hpadmin's recovery agent",
    requires="munge slurmctld",
    background="/var/log/hpadmin-agent.log",
)


def unit(daemon: Daemon) -> str:
    """Return the systemd unit of a daemon that stays in the foreground and has none of its own."""
    return f"""[Unit]
Description={daemon.description}
After=network-online.target {" ".join(f"{name}.service" for name in daemon.requires.split())}
Wants=network-online.target

[Service]
EnvironmentFile=-/etc/default/{daemon.name}
ExecStart={daemon.executable} ${daemon.options_variable}
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def script(daemon: Daemon) -> str:
    """Return the text of the daemon's script: start, stop, restart, reload and status."""
    environment = f"{daemon.environment} " if daemon.environment else ""
    # What stays in the foreground may be a script: its interpreter is no name to find it by, so its number is kept.
    pid_file = f"--pidfile /run/{daemon.name}.pid"
    found_by = pid_file if daemon.background else f"--exec {daemon.executable}"
    background = f" --background --make-pidfile --output {daemon.background}" if daemon.background else ""
    return f"""#!/bin/sh
### BEGIN INIT INFO
# Provides:          {daemon.name}
# Required-Start:    $remote_fs $network {daemon.requires}
# Required-Stop:     $remote_fs $network {daemon.requires}
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: {daemon.description}
### END INIT INFO
# Written by hpadmin's lifecycle.

{daemon.options_variable}=
[ ! -r /etc/default/{daemon.name} ] || . /etc/default/{daemon.name}

case "$1" in
    start)
        {daemon.prepare or ":"}
        # shellcheck disable=SC2086
        {environment}start-stop-daemon --start --oknodo --chuid {daemon.user}{background} \\
            {found_by} --startas {daemon.executable} -- ${daemon.options_variable}
        ;;
    stop)
        start-stop-daemon --stop --oknodo --retry TERM/20/KILL/5 {found_by}
        ;;
    restart | force-reload)
        "$0" stop && "$0" start
        ;;
    reload)
        start-stop-daemon --stop --signal HUP {found_by}
        ;;
    status)
        start-stop-daemon --status {found_by}
        ;;
    *)
        echo "Usage: $0 start|stop|restart|reload|force-reload|status" >&2
        exit 2
        ;;
esac
"""
