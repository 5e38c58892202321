"""The update with its gradients written out against the one that is read, over a hundred updates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.fused import FusedSAC
from atradiff.agents.make import make_agent
from atradiff.agents.sac import SAC
from atradiff.trajectory import TransitionBatch

CONFIG = AgentConfig(width=32, batch_size=24, utd_ratio=3, initial_temperature=0.3, imitation_weight=0.7)


def batch(config: AgentConfig, random: torch.Generator) -> TransitionBatch:
    count = config.batch_size * config.utd_ratio
    return TransitionBatch(
        observation=torch.randn(count, 4, generator=random),
        action=torch.rand(count, 2, generator=random) * 2 - 1,
        reward=torch.randn(count, generator=random),
        next_observation=torch.randn(count, 4, generator=random),
        discount=torch.where(torch.rand(count, generator=random) < 0.2, 0.0, 0.97),
        source=torch.randint(3, (count,), generator=random).to(torch.uint8),
    )


@pytest.mark.parametrize(
    ("config", "updates"),
    [
        (CONFIG, 100),
        (replace(CONFIG, backup_entropy=True, imitation_weight=0.0), 20),
        (replace(CONFIG, imitation_filter=True, layer_norm=False, depth=1), 20),
        (replace(CONFIG, num_critics=4, num_min_critics=2, depth=3, temperature_learning_rate=0.0), 20),
        (replace(CONFIG, num_critics=4, num_min_critics=2, dropout=0.2), 20),
        (replace(CONFIG, dropout=0.2, layer_norm=False, actor_value="min"), 20),
        (replace(CONFIG, actor_value="first"), 20),
    ],
)
def test_fused_is_the_readable_form(config: AgentConfig, updates: int) -> None:
    """Every parameter, moment and log, and what is drawn from the generator."""
    fused, readable = (kind(toys.SPEC, config, toys.generator()) for kind in (FusedSAC, SAC))
    for agent in (fused, readable):  # so that some log standard deviations are clamped
        agent.actor.net.biases[-1].data[..., 3] = -9.99
    draws, same = toys.generator(1), toys.generator(1)
    random = toys.generator(2)
    for _ in range(updates):
        transitions = batch(config, random)
        logs, expected = fused.update(transitions, draws), readable.update(transitions, same)
        assert logs.keys() == expected.keys()
        assert all(torch.allclose(logs[name], value, atol=1e-5) for name, value in expected.items())
    assert torch.equal(draws.get_state(), same.get_state())
    assert fused.gradient_steps == readable.gradient_steps
    for name in ("actor_optimizer", "critic_optimizer", "temperature_optimizer"):
        ours, theirs = getattr(fused, name), getattr(readable, name)
        assert torch.allclose(ours.flat, theirs.flat, atol=1e-5)
        assert torch.allclose(ours.mean, theirs.mean, atol=1e-5)
    assert torch.allclose(fused._flat_target, readable._flat_target, atol=1e-5)
    seen = torch.randn(5, 4, generator=random).numpy()
    for explore in (None, 3):
        ours, theirs = (agent.act(seen, toys.generator(explore) if explore else None) for agent in (fused, readable))
        assert np.allclose(ours, theirs, atol=1e-4)


def test_on_a_cpu_the_fused_form_is_taken() -> None:
    assert type(make_agent(toys.SPEC, CONFIG, toys.generator())) is FusedSAC
