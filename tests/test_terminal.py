"""What a process takes of the machine."""

import pytest
import torch

from dreamfusion_pl.terminal import GPU_SHARE, guarded


@pytest.mark.parametrize(
    "share, is_there, taken", [("0.25", True, [0.225]), ("0.25", False, []), (None, True, [])]
)
def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch, share, is_there, taken):
    fractions = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    if share is None:
        monkeypatch.delenv(GPU_SHARE, raising=False)
    else:
        monkeypatch.setenv(GPU_SHARE, share)
    assert guarded(lambda: None, "fit") == 0
    assert fractions == taken
