"""Muon on hardware with and without bf16."""

import pytest
import timm.optim
import torch
from timm.optim import muon

from eurosat.models import Muon


def step(optimizer: type[torch.optim.Optimizer]) -> torch.Tensor:
    """Return a weight after two steps with the same gradients."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(16, 8, 3, 3, generator=generator))
    taken = optimizer([weight], lr=0.01)
    for _ in range(2):
        weight.grad = torch.randn(weight.shape, generator=generator)
        taken.step()
    return weight.detach()


@pytest.mark.parametrize(
    ("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)], ids=["bf16", "none"]
)
def test_the_hardware_decides_the_dtype(
    supported: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    orthogonalise = muon.zeropower_via_newtonschulz

    def watch(*arguments: object, **options: object) -> torch.Tensor:
        update = orthogonalise(*arguments, **options)
        computed.append(update.dtype)
        return update

    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", watch)
    monkeypatch.setattr("eurosat.models.muon.computes_bf16", lambda _: supported)
    weight = step(Muon)
    assert computed == [dtype, dtype]
    assert muon.zeropower_via_newtonschulz is watch
    expected = step(timm.optim.Muon)
    torch.testing.assert_close(weight, expected, rtol=0, atol=0 if supported else 1e-4)


def test_an_error_in_a_step_restores_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eurosat.models.muon.computes_bf16", lambda _: False)
    before = muon.zeropower_via_newtonschulz

    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        Muon([torch.nn.Parameter(torch.ones(8, 8))]).step(fail)
    assert muon.zeropower_via_newtonschulz is before
