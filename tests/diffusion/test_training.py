"""`fit`: schedule, moving average, determinism, and a loss that is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import toys
from atradiff.diffusion.training import AdamW, Progress, TrainConfig, fit


class Slope(nn.Module):
    """loss = weight * batch: the gradient is the batch, whatever the weight; keeps the weights it was asked at."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.path: list[float] = []

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        self.path.append(float(self.weight.detach()))
        loss = (self.weight * batch).sum()
        return loss, {"loss": loss.detach()}


def one(generator: torch.Generator) -> Tensor:
    return torch.ones(1)


def test_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    """Under a constant gradient Adam moves by exactly the learning rate, so that the weight's path shows the schedule."""
    model, steps, warmup = Slope(), 40, 8
    config = TrainConfig(gradient_steps=steps, learning_rate=0.01, weight_decay=0.0, warmup_share=0.2, ema_decay=0.0)
    fit(model, one, config, toys.generator())
    path = torch.tensor([*model.path, float(model.weight.detach())])
    rates = (path[:-1] - path[1:]) / 0.01
    expected = [(s + 1) / warmup if s < warmup else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (steps - warmup))) for s in range(steps)]
    assert torch.allclose(rates, torch.tensor(expected), atol=1e-4)


def test_the_moving_average_is_what_is_kept() -> None:
    model = Slope()
    config = TrainConfig(gradient_steps=30, learning_rate=0.01, weight_decay=0.0, ema_decay=0.9)
    weights: list[float] = []
    fit(model, one, config, toys.generator(), lambda progress: weights.append(float(model.weight.detach())))
    average = 0.0
    for step, weight in enumerate(weights):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert float(model.weight.detach()) == pytest.approx(average, rel=1e-4)
    assert not model.training


def test_every_step_is_reported() -> None:
    told: list[Progress] = []
    fit(Slope(), one, TrainConfig(gradient_steps=5), toys.generator(), told.append)
    assert [progress.gradient_steps for progress in told] == [1, 2, 3, 4, 5]
    assert all(torch.isfinite(progress.logs["loss"]) for progress in told)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(FloatingPointError):
        fit(Slope(), lambda g: torch.full((1,), bad), TrainConfig(gradient_steps=3), toys.generator())


def test_gradients_are_clipped() -> None:
    """Adam does not care for the gradient's size; its second moment does: one huge gradient among small ones would stall it."""
    model = Slope()
    norms: list[float] = []
    model.weight.register_hook(lambda gradient: norms.append(float(gradient.norm())))
    fit(
        model,
        lambda g: torch.full((1,), 1e6),
        TrainConfig(gradient_steps=1, gradient_clip=0.5),
        toys.generator(),
        lambda progress: norms.append(float(model.weight.grad.norm())),  # type: ignore[union-attr]
    )
    assert norms == pytest.approx([1e6, 0.5], rel=1e-3)


def test_frozen_parameters_stay(trained_denoisers: list[nn.Module]) -> None:
    model = nn.ModuleDict({"slope": Slope(), "frozen": nn.Linear(2, 2).requires_grad_(False)})
    model.loss = lambda batch, generator: model["slope"].loss(batch, generator)  # type: ignore[assignment,operator]
    before = model["frozen"].weight.clone()  # type: ignore[union-attr,operator]
    fit(model, one, TrainConfig(gradient_steps=3, weight_decay=0.5), toys.generator())
    assert torch.equal(model["frozen"].weight, before)  # type: ignore[arg-type]


def test_adamw_is_that_of_torch_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    optimizer, reference = AdamW(ours, weight_decay=0.1), torch.optim.AdamW(theirs, weight_decay=0.1, fused=True)
    for step in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        reference.param_groups[0]["lr"] = 0.01 * (step + 1)
        optimizer.step(0.01 * (step + 1))
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
