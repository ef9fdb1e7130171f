"""What only a machine of the cluster can tell, asked of this one."""

from __future__ import annotations

import pwd
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThisHost:
    """A `finding.Host`: this machine's users and name service."""

    def has_user(self, name: str) -> bool:
        """See `Host.has_user`."""
        try:
            if name.isdecimal():
                pwd.getpwuid(int(name))
            else:
                pwd.getpwnam(name)
        except KeyError:
            return False
        return True

    def resolves(self, name: str) -> bool:
        """See `Host.resolves`."""
        try:
            socket.getaddrinfo(name, None)
        except (socket.gaierror, UnicodeError):
            return False
        return True
