"""What every comparison with another implementation needs: equal weights, equal batches, equal noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

import toys
from atradiff.agents.networks import EnsembleMLP
from atradiff.trajectory import Spec, TransitionBatch

SPEC = Spec(state_dim=3, action_dim=2, task_dim=0, action_low=(-1.0, -1.0), action_high=(1.0, 1.0))
BATCH = 32
DISCOUNT = 0.97
CLOSE = 1e-5


def make_batch(seed: int = 1, n_step: int = 1) -> TransitionBatch:
    """A batch of transitions of up to `n_step` steps, a quarter of which terminate."""
    random = toys.generator(seed)
    steps = torch.randint(1, n_step + 1, (BATCH,), generator=random)
    return TransitionBatch(
        observation=torch.randn(BATCH, SPEC.state_dim, generator=random),
        action=torch.rand(BATCH, SPEC.action_dim, generator=random) * 2 - 1,
        reward=torch.randn(BATCH, generator=random),
        next_observation=torch.randn(BATCH, SPEC.state_dim, generator=random),
        discount=torch.where(torch.arange(BATCH) % 4 == 0, 0.0, DISCOUNT**steps),
        source=torch.zeros(BATCH, dtype=torch.uint8),
    )


def linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


@torch.no_grad()
def copy_weights(net: EnsembleMLP, member: int, layers: Sequence[nn.Linear]) -> None:
    """Into `layers`, which may have their last one in equal pieces."""
    depth = len(net.weights) - 1
    heads = len(layers) - depth
    weights = [*(w[member] for w in net.weights[:-1]), *net.weights[-1][member].chunk(heads, dim=-1)]
    biases = [*(b[member, 0] for b in net.biases[:-1]), *net.biases[-1][member, 0].chunk(heads, dim=-1)]
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        layer.weight.copy_(weight.mT)
        layer.bias.copy_(bias)


def assert_same_weights(net: EnsembleMLP, member: int, layers: Sequence[nn.Linear]) -> None:
    """Each weight to 1e-5."""
    weights = torch.cat([layer.weight.mT for layer in layers[len(net.weights) - 1 :]], dim=-1)
    biases = torch.cat([layer.bias for layer in layers[len(net.biases) - 1 :]])
    theirs = [*((layer.weight.mT, layer.bias) for layer in layers[: len(net.weights) - 1]), (weights, biases)]
    for weight, bias, (their_weight, their_bias) in zip(net.weights, net.biases, theirs, strict=True):
        assert torch.allclose(weight[member], their_weight, atol=CLOSE, rtol=0)
        assert torch.allclose(bias[member, 0], their_bias, atol=CLOSE, rtol=0)


def feed_noise(patch: pytest.MonkeyPatch, noises: Iterator[Tensor]) -> None:
    """Let torch.distributions' normal draws be these, one after the other."""

    def draw(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        noise = next(noises)
        assert noise.shape == torch.Size(shape)
        return noise.to(dtype)

    patch.setattr(torch.distributions.normal, "_standard_normal", draw)
