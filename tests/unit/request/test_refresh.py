"""Refreshing the catalog from answers of EC2 in its own form."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from hpadmin.request import catalog, refresh

P5: dict[str, Any] = {
    "InstanceType": "p5.48xlarge",
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"], "SustainedClockSpeedInGhz": 3.6},
    "VCpuInfo": {"DefaultVCpus": 192, "DefaultCores": 96, "DefaultThreadsPerCore": 2},
    "MemoryInfo": {"SizeInMiB": 2097152},
    "InstanceStorageSupported": True,
    "InstanceStorageInfo": {"TotalSizeInGB": 30400},
    "NetworkInfo": {"EfaSupported": True, "EfaInfo": {"MaximumEfaInterfaces": 32}},
    "GpuInfo": {
        "Gpus": [{"Name": "H100", "Manufacturer": "NVIDIA", "Count": 8, "MemoryInfo": {"SizeInMiB": 81920}}],
        "TotalGpuMemoryInMiB": 655360,
    },
}
TRN1: dict[str, Any] = {
    "InstanceType": "trn1.32xlarge",
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "VCpuInfo": {"DefaultVCpus": 128, "DefaultCores": 64, "DefaultThreadsPerCore": 2},
    "MemoryInfo": {"SizeInMiB": 524288},
    "InstanceStorageInfo": {"TotalSizeInGB": 7600},
    "NetworkInfo": {"EfaSupported": True, "EfaInfo": {"MaximumEfaInterfaces": 8}},
    "NeuronInfo": {
        "NeuronDevices": [
            {
                "Count": 16,
                "Name": "Trainium",
                "CoreInfo": {"Count": 2, "Version": 2},
                "MemoryInfo": {"SizeInMiB": 32768},
            }
        ]
    },
}
C6G: dict[str, Any] = {
    "InstanceType": "c6g.medium",
    "ProcessorInfo": {"SupportedArchitectures": ["arm64"]},
    "VCpuInfo": {"DefaultVCpus": 1, "DefaultCores": 1, "DefaultThreadsPerCore": 1},
    "MemoryInfo": {"SizeInMiB": 2048},
    "NetworkInfo": {"EfaSupported": False},
}


@pytest.fixture
def ec2() -> Any:
    return boto3.client(
        "ec2", region_name="us-west-2", aws_access_key_id="none", aws_secret_access_key="none"
    )


def filters(*names: str) -> dict[str, Any]:
    return {"Filters": [{"Name": "instance-type", "Values": list(names)}]}


def test_pages_are_read_to_the_end_and_give_the_facts_of_the_catalog(ec2: Any) -> None:
    names = ("c6g.medium", "p5.48xlarge", "trn1.32xlarge")
    with Stubber(ec2) as stub:
        first = {"InstanceTypes": [P5, TRN1], "NextToken": "more"}
        stub.add_response("describe_instance_types", first, filters(*names))
        stub.add_response(
            "describe_instance_types", {"InstanceTypes": [C6G]}, filters(*names) | {"NextToken": "more"}
        )
        fetched = refresh.fetch(ec2, [f"ml.{name}" for name in names])
        stub.assert_no_pending_responses()
    known = json.loads(files("hpadmin.request").joinpath(catalog.DATA_FILE).read_text())
    assert fetched == {name: known[name] for name in fetched}
    assert len(fetched) == 3


def test_many_types_are_asked_for_in_several_calls(ec2: Any) -> None:
    names = [f"ml.t{number:03}.large" for number in range(150)]
    plain = [name.removeprefix("ml.") for name in names]
    with Stubber(ec2) as stub:
        for part in (plain[:100], plain[100:]):
            stub.add_response("describe_instance_types", {"InstanceTypes": []}, filters(*part))
        assert refresh.fetch(ec2, names) == {}
        stub.assert_no_pending_responses()


def test_merging_keeps_what_ec2_does_not_tell() -> None:
    old: dict[str, dict[str, Any]] = {
        "ml.p6e-gb200.36xlarge": {"vcpus": 1, "ultraserver_max_nodes": 18, "note": "from specifications"},
        "ml.c5.large": {"vcpus": 2},
    }
    fetched = {"ml.p6e-gb200.36xlarge": {"vcpus": 144}, "ml.new.large": {"vcpus": 8}}
    assert refresh.merge(old, fetched) == {
        "ml.c5.large": {"vcpus": 2},
        "ml.new.large": {"vcpus": 8},
        "ml.p6e-gb200.36xlarge": {"vcpus": 144, "ultraserver_max_nodes": 18},
    }


def test_the_file_is_written_as_it_is_kept() -> None:
    text = files("hpadmin.request").joinpath(catalog.DATA_FILE).read_text()
    assert refresh.dump(json.loads(text)) == text


def test_the_command(ec2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = tmp_path / "types.json"
    known = json.loads(files("hpadmin.request").joinpath(catalog.DATA_FILE).read_text())
    path.write_text(refresh.dump(known | {"ml.p5.48xlarge": {"vcpus": 1}}))
    monkeypatch.setattr("boto3.client", lambda *_, **__: ec2)
    with Stubber(ec2) as stub:
        for answer in ([P5], [], []):
            stub.add_response("describe_instance_types", {"InstanceTypes": answer})
        assert refresh.main(["--file", str(path)]) == 0
    assert json.loads(path.read_text()) == known
    assert capsys.readouterr().out == "changed: ml.p5.48xlarge\n"


def test_what_can_go_wrong_is_told(
    ec2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("boto3.client", lambda *_, **__: ec2)
    with Stubber(ec2) as stub:
        stub.add_client_error("describe_instance_types", "UnauthorizedOperation", "not allowed")
        path = tmp_path / "types.json"
        path.write_text("{}")
        assert refresh.main(["--file", str(path)]) == 1
    assert "EC2 cannot be asked: An error occurred (UnauthorizedOperation)" in capsys.readouterr().err
    assert refresh.main(["--file", str(tmp_path / "absent.json")]) == 1
    assert (
        capsys.readouterr().err
        == f"{tmp_path / 'absent.json'} cannot be refreshed: No such file or directory\n"
    )
