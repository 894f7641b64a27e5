"""GPUs that torch cannot use."""

from pathlib import Path

import pytest
import torch

from eurosat.hardware import idle_gpu


def test_a_gpu_that_torch_cannot_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use the GPU of this machine")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert idle_gpu(tmp_path) is None
    (tmp_path / "nvidia0").touch()
    assert idle_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert idle_gpu(tmp_path) is None
