"""The catalog: complete, consistent, and careful with memory."""

from __future__ import annotations

import pytest

from hpadmin.errors import InvalidInput
from hpadmin.request import catalog
from tests.unit.request.test_shapes import MODEL


def test_every_type_that_the_api_takes_is_known() -> None:
    assert set(MODEL.shape_for("ClusterInstanceType").enum) == catalog.known_types()  # type: ignore[attr-defined]
    assert len(catalog.known_types()) == 209


def test_the_facts_agree_with_each_other() -> None:
    for name in catalog.known_types():
        hardware = catalog.lookup(name)
        assert hardware.vcpus == hardware.cores * hardware.threads_per_core
        assert (hardware.accelerator is None) == (hardware.accelerator_count == 0)
        assert (hardware.accelerator_cores > 0) == (hardware.accelerator_kind == "neuron")


@pytest.mark.parametrize(
    ("name", "accelerator", "kind", "count", "cores"),
    [
        ("ml.p5.48xlarge", "h100", "gpu", 8, 0),
        ("ml.p4d.24xlarge", "a100", "gpu", 8, 0),
        ("ml.g6e.12xlarge", "l40s", "gpu", 4, 0),
        ("ml.g7.2xlarge", "rtx_pro_4500", "gpu", 1, 0),
        ("ml.g7e.2xlarge", "rtx_pro_6000", "gpu", 1, 0),
        ("ml.p6e-gb200.36xlarge", "gb200", "gpu", 4, 0),
        ("ml.trn1.32xlarge", "trainium", "neuron", 16, 32),
        ("ml.trn2.48xlarge", "trainium2", "neuron", 16, 128),
        ("ml.c5.large", None, None, 0, 0),
    ],
)
def test_accelerators(name: str, accelerator: str | None, kind: str | None, count: int, cores: int) -> None:
    found = catalog.lookup(name)
    assert (found.accelerator, found.accelerator_kind) == (accelerator, kind)
    assert (found.accelerator_count, found.accelerator_cores) == (count, cores)


def test_an_unknown_type() -> None:
    with pytest.raises(InvalidInput, match=r"the catalog does not know instance type 'ml\.x9\.large'"):
        catalog.lookup("ml.x9.large")


@pytest.mark.parametrize(
    ("nominal", "configured"),
    [
        (2048, 1536),
        (4096, 3072),
        (8192, 7168),
        (16384, 15360),
        (32768, 31130),
        (1179648, 1120666),
        (2097152, 1992295),
    ],
)
def test_real_memory_leaves_headroom(nominal: int, configured: int) -> None:
    assert catalog.real_memory(nominal) == configured


def test_the_headroom_covers_page_map_and_crash_kernel() -> None:
    limits = ((128, 4096), (64, 2048), (32, 1024), (4, 512), (2, 320))
    for name in catalog.known_types():
        nominal = catalog.lookup(name).memory_mib
        crash_kernel = next(size for gib, size in limits if nominal >= gib * 1024)
        page_map = nominal * 64 / 4096
        assert nominal - catalog.real_memory(nominal) > page_map + crash_kernel, name
