"""Refresh the catalog from EC2.

    python -m hpadmin.request.refresh [--region us-west-2] [--file FILE]

asks EC2's DescribeInstanceTypes for every ``ml.*`` type that botocore's model of CreateCluster knows and writes
``instance_types.json`` anew. It needs credentials that allow ``ec2:DescribeInstanceTypes``. What EC2 does not list
in the region keeps the facts that it had; a type that neither knows is named at the end. What EC2
does not tell (`ultraserver_max_nodes`) stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpadmin.request import catalog, shapes

if TYPE_CHECKING:
    from botocore.client import BaseClient

_A_CALL = 100
"""Instance types that one call of DescribeInstanceTypes takes."""
_OURS = ("ultraserver_max_nodes",)
"""Facts that EC2 does not tell: they survive a refresh."""


def fetch(client: BaseClient, types: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the catalog's facts of those ``ml.*`` types that EC2 lists, from a boto3 EC2 client.

    A filter instead of `InstanceTypes` names them: that would refuse the whole call for one unknown type.
    """
    found: dict[str, dict[str, Any]] = {}
    names = sorted(name.removeprefix("ml.") for name in types)
    for start in range(0, len(names), _A_CALL):
        filters = [{"Name": "instance-type", "Values": names[start : start + _A_CALL]}]
        token: dict[str, str] = {}
        while True:
            answer = client.describe_instance_types(Filters=filters, **token)  # type: ignore[attr-defined]
            for described in answer["InstanceTypes"]:
                found[f"ml.{described['InstanceType']}"] = facts(described)
            if not answer.get("NextToken"):
                break
            token = {"NextToken": answer["NextToken"]}
    return found


def facts(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the catalog's entry for one instance type as EC2 describes it."""
    cpus = described["VCpuInfo"]
    architectures = described["ProcessorInfo"]["SupportedArchitectures"]
    entry: dict[str, Any] = {
        "vcpus": cpus["DefaultVCpus"],
        "cores": cpus["DefaultCores"],
        "threads_per_core": cpus["DefaultThreadsPerCore"],
        "memory_mib": described["MemoryInfo"]["SizeInMiB"],
        "arch": "arm64" if "arm64" in architectures else "x86_64",
    }
    if gpus := described.get("GpuInfo", {}).get("Gpus"):
        gpu = gpus[0]
        entry["gpus"] = {
            "count": sum(each["Count"] for each in gpus),
            "name": gpu["Name"],
            "manufacturer": gpu["Manufacturer"],
            "memory_mib": gpu["MemoryInfo"]["SizeInMiB"],
        }
    if devices := described.get("NeuronInfo", {}).get("NeuronDevices"):
        device = devices[0]
        entry["neuron"] = {
            "devices": sum(each["Count"] for each in devices),
            "cores_per_device": device["CoreInfo"]["Count"],
            "name": device["Name"],
        }
    network = described.get("NetworkInfo", {})
    if network.get("EfaSupported"):
        entry["efa_interfaces"] = network["EfaInfo"]["MaximumEfaInterfaces"]
    if storage := described.get("InstanceStorageInfo"):
        entry["local_nvme_gb"] = storage["TotalSizeInGB"]
    return entry


def merge(
    old: Mapping[str, Mapping[str, Any]], fetched: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the new catalog: what was fetched, over what was known."""
    merged = {}
    for name in sorted({*old, *fetched}):
        before = old.get(name, {})
        kept = {key: before[key] for key in _OURS if key in before}
        merged[name] = {**fetched[name], **kept} if name in fetched else dict(before)
    return merged


def dump(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of ``instance_types.json``: one type a line, so that a change is one line of a diff."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments: list[str] | None = None) -> int:
    """Refresh the file and print what changed. Exit code 1 when a type stays unknown or EC2 cannot be asked."""
    import argparse
    import sys

    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    here = Path(__file__).with_name(catalog.DATA_FILE)
    parser = argparse.ArgumentParser(
        prog="python -m hpadmin.request.refresh",
        description="Refresh the catalog of instance types from EC2.",
    )
    parser.add_argument("--region", help="region whose EC2 is asked; default: that of the credentials")
    parser.add_argument("--file", type=Path, default=here, help="file to refresh; default: %(default)s")
    given = parser.parse_args(arguments)
    wanted = shapes.instance_types()
    try:
        old = json.loads(given.file.read_text(encoding="utf-8"))
        new = merge(old, fetch(boto3.client("ec2", region_name=given.region), wanted))
        given.file.write_text(dump(new), encoding="utf-8")
    except (BotoCoreError, ClientError) as error:
        sys.stderr.write(f"EC2 cannot be asked: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{given.file} cannot be refreshed: {error.strerror}\n")
        return 1
    for name in new:
        if new[name] != old.get(name):
            sys.stdout.write(f"{'changed' if name in old else 'new'}: {name}\n")
    unknown = sorted(set(wanted) - new.keys())
    if unknown:
        sys.stderr.write(f"EC2 does not list these here: {', '.join(unknown)}\n")
    return 1 if unknown else 0


if __name__ == "__main__":
    raise SystemExit(main())
