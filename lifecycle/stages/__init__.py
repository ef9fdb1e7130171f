"""The stages, in the order in which a node goes through them; each module holds one part of a node's life."""

from __future__ import annotations

from lifecycle.engine import Stage
from lifecycle.stages import authentication, controller, identity, worker

ALL: tuple[Stage, ...] = (
    identity.STAGE,
    authentication.STAGE,
    controller.STAGE,
    worker.LOGIN,
    worker.COMPUTE,
)
"""Every stage; each says itself whether a node needs it."""
