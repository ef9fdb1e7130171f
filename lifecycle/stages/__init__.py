"""The stages, in the order in which a node goes through them; each module holds one part of a node's life."""

from __future__ import annotations

from lifecycle.engine import Stage
from lifecycle.stages import (
    accounting,
    accounts,
    authentication,
    auto_resume,
    containers,
    controller,
    extras,
    identity,
    inventory,
    rest,
    storage,
    worker,
)

ALL: tuple[Stage, ...] = (
    identity.STAGE,
    storage.STAGE,
    accounts.STAGE,
    accounts.SSH,
    authentication.STAGE,
    extras.ROTATE,
    extras.PROGRAMS,
    auto_resume.STAGE,
    extras.SUBMISSION,
    containers.STAGE,
    extras.OBSERVABILITY,
    rest.KEY,
    controller.CONFIGURATION,
    accounting.NO_DATABASE,
    accounting.DATABASE,
    controller.STAGE,
    accounting.ASSOCIATIONS,
    rest.SERVICE,
    inventory.STAGE,
    extras.AGENT_STAGE,
    worker.LOGIN,
    worker.COMPUTE,
)
"""Every stage; each says itself whether a node needs it."""
