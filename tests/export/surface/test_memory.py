"""How much memory a process may take, read from control groups as containers have them."""

import pytest
import torch
from scenes import Balls

from dreamfusion_pl.export import asset
from dreamfusion_pl.export.asset import Settings, make_asset
from dreamfusion_pl.export.surface import memory
from dreamfusion_pl.export.surface.memory import available_memory, check_texture_fits, physical_memory

GB = 10**9


def group(place, version: int, limit: str, used: int = GB, cached: int = GB // 4) -> None:
    """Files of a container, as Linux shows them."""
    names = ("memory.max", "memory.current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    folder, kind = (place, "") if version == 2 else (place / "memory", "total_")
    folder.mkdir(exist_ok=True)
    for name, text in zip(names, (limit, str(used)), strict=True):
        (folder / (name if version == 2 else f"memory.{name}")).write_text(f"{text}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{kind}active_file 7\n{kind}inactive_file {cached}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch, version):
    monkeypatch.setattr(memory, "physical_memory", lambda: 64 * GB)
    assert available_memory(tmp_path) == 64 * GB
    group(tmp_path, version, str(4 * GB))
    assert (
        available_memory(tmp_path) == 3 * GB + GB // 4
    )  # files in the cache are given up when memory is short
    group(tmp_path, version, str(GB // 2), cached=0)
    assert available_memory(tmp_path) == 0
    group(tmp_path, version, "max" if version == 2 else str(2**63 - 4096))
    assert available_memory(tmp_path) == 64 * GB


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "physical_memory", lambda: None)
    assert available_memory(tmp_path) is None
    check_texture_fits(8192, None)


def test_this_machine_says():
    assert 0 < available_memory() <= physical_memory()


def test_a_texture_that_does_not_fit_is_refused_with_one_that_does(monkeypatch):
    needed = 1024**2 * memory.TEXEL_BYTES
    check_texture_fits(1024, int(needed / 0.8) + 1)
    with pytest.raises(ValueError, match=r"1024 x 1024 needs about 0.1 GB.*a size of 915 or less"):
        check_texture_fits(1024, needed)
    monkeypatch.setattr(asset, "available_memory", lambda: needed)
    with pytest.raises(ValueError, match="a texture of 1024 x 1024"):
        make_asset(Balls([(torch.zeros(3), 0.4)]), Settings(texture_size=1024))
