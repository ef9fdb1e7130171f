"""GRES as one unit: `Gres=` on the node, `GresTypes`, and the gres.conf lines that make both true.

Any of the three without the others is a broken cluster: a node that registers fewer devices than its `Gres=`
becomes INVALID_REG (src/interfaces/gres.c, _node_config_validate), names that `GresTypes` lacks are dropped, and a
GPU without a device file is ignored ("file-less GPU").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hpadmin.configure.options import RenderOptions
from hpadmin.configure.templates import listed
from hpadmin.errors import InvalidInput, Problem
from hpadmin.model import Node

NEURON_CORES = "neuroncore"
"""GRES name of NeuronCores: counted for scheduling, while the devices carry the files."""


@dataclass(frozen=True, slots=True)
class NodeGres:
    """The GRES of one node, in all three places."""

    names: tuple[str, ...]
    """For `GresTypes`."""
    node: str
    """For the node's `Gres=`; empty without devices."""
    lines: tuple[tuple[tuple[str, str], ...], ...]
    """For gres.conf: settings of each line, without its NodeName."""


NO_GRES = NodeGres((), "", ())


def of_node(node: Node, options: RenderOptions) -> NodeGres:
    """Return the GRES of a node: typed GPUs (``gpu:h100:8``), or Neuron devices with their cores.

    Neuron devices are GRES ``gpu`` too, since that is what Slurm's detection of them makes
    (src/plugins/gpu/nrt/gpu_nrt.c).

    Raises InvalidInput when explicit device files do not have the number that the instance type has.
    """
    hardware = node.hardware
    if not hardware.accelerator_count:
        return NO_GRES
    kind = f"gpu:{hardware.accelerator}"
    names, requested = ["gpu"], [f"{kind}:{hardware.accelerator_count}"]
    files = _files(node, options)
    if files:
        settings = [("Name", "gpu"), ("Type", str(hardware.accelerator)), ("File", listed(files))]
        if hardware.accelerator_kind == "gpu":
            # Without detection Slurm cannot know the vendor and sets the variables of all.
            settings.append(("Flags", "nvidia_gpu_env"))
    else:
        detect = "nrt" if hardware.accelerator_kind == "neuron" else options.gpu_autodetect
        settings = [("AutoDetect", detect)]
    lines = [tuple(settings)]
    if hardware.accelerator_cores:
        names.append(NEURON_CORES)
        requested.append(f"{NEURON_CORES}:{hardware.accelerator_cores}")
        lines.append(
            (("Name", NEURON_CORES), ("Count", str(hardware.accelerator_cores)), ("Flags", "CountOnly"))
        )
    return NodeGres(tuple(names), ",".join(requested), tuple(lines))


def types(every: Iterable[NodeGres]) -> tuple[str, ...]:
    """Return the names for `GresTypes`, each once."""
    return tuple(dict.fromkeys(name for gres in every for name in gres.names))


def _files(node: Node, options: RenderOptions) -> tuple[str, ...]:
    count = node.hardware.accelerator_count
    if files := options.device_files.get(node.instance.group):
        if len(files) != count:
            message = (
                f"{len(files)} device files for {node.hardware.instance_type}, which has {count} devices"
            )
            raise InvalidInput(
                "device files do not match the hardware", [Problem(node.instance.group, message)]
            )
        return files
    if options.device_prefix:
        return tuple(f"{options.device_prefix}{index}" for index in range(count))
    return ()
