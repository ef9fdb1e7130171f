"""What is known of each instance type: cores, memory, accelerators, network cards.

The facts lie beside this module in ``instance_types.json``, one type a line, as EC2's DescribeInstanceTypes
gives them; `hpadmin.request.refresh` writes that file anew.

>>> lookup("ml.p5.48xlarge").accelerator
'h100'
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpadmin.errors import InvalidInput
from hpadmin.model import Hardware

DATA_FILE = "instance_types.json"

_DEVICE_NAMES = {
    # EC2's name of the device, where it is not part of the name that the driver reports. Slurm keeps the
    # type of a detected device only when the configured type is a substring of the driver's name, lower
    # case with underscores (src/plugins/gres/gpu/gres_gpu.c, _find_type_in_gres_list and
    # gpu_common_underscorify_tolower): "NVIDIA RTX PRO 6000 Blackwell Server Edition".
    "RTX PRO Server 6000": "rtx_pro_6000",
}


@lru_cache(maxsize=512)
def lookup(instance_type: str) -> Hardware:
    """Return the hardware of an instance type such as ``ml.p4d.24xlarge``.

    Raises InvalidInput when the catalog does not know it.
    """
    known = _catalog()
    if instance_type not in known:
        raise InvalidInput(
            f"the catalog does not know instance type {instance_type!r}",
            hint="python -m hpadmin.request.refresh adds new types from EC2",
        )
    return _hardware(instance_type, known[instance_type])


def known_types() -> frozenset[str]:
    """Return the names of all types in the catalog."""
    return frozenset(_catalog())


def real_memory(memory_mib: int) -> int:
    """Return the `RealMemory` (MiB) to configure for a node with `memory_mib` of nominal memory.

    A node that registers with less memory than configured is set to drain ("Low RealMemory"), so the value
    must be one that every kernel leaves: the kernel's page map takes 1.6 % (64 bytes for each page of 4 KiB)
    and its crash kernel up to 512 MiB below 32 GiB, 1 GiB below 64 GiB, 2 GiB below 128 GiB and 4 GiB above
    (Ubuntu's ``crashkernel=`` default). Kept free are therefore 5 % of the memory or 1 GiB, whichever is
    more, but never more than a quarter (instances of 2 GiB).
    """
    reserve = max(memory_mib // 20, min(1024, memory_mib // 4))
    return memory_mib - reserve


def gres_type(device_name: str) -> str:
    """Return Slurm's GRES type for EC2's name of an accelerator: ``NVIDIA L40S`` has the type ``l40s``."""
    return _DEVICE_NAMES.get(device_name) or re.sub(r"[^a-z0-9]+", "_", device_name.lower()).strip("_")


@lru_cache(maxsize=1)
def _catalog() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name(DATA_FILE).read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = json.loads(text)
    return data


def _hardware(instance_type: str, facts: dict[str, Any]) -> Hardware:
    gpus, neuron = facts.get("gpus"), facts.get("neuron")
    accelerator, kind, count, accelerator_cores = None, None, 0, 0
    if gpus:
        accelerator, kind, count = gres_type(gpus["name"]), "gpu", gpus["count"]
    elif neuron:
        accelerator, kind, count = gres_type(neuron["name"]), "neuron", neuron["devices"]
        accelerator_cores = count * neuron["cores_per_device"]
    return Hardware(
        instance_type=instance_type,
        vcpus=facts["vcpus"],
        cores=facts["cores"],
        threads_per_core=facts["threads_per_core"],
        memory_mib=facts["memory_mib"],
        arch=facts["arch"],
        accelerator=accelerator,
        accelerator_kind=kind,
        accelerator_count=count,
        accelerator_cores=accelerator_cores,
        efa_interfaces=facts.get("efa_interfaces", 0),
        ultraserver_nodes=facts.get("ultraserver_max_nodes", 0),
    )
