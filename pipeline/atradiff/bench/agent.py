"""agent: updates of SAC, and of the ensemble that REDQ and RLPD learn with twenty times for each env step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.make import make_agent
from atradiff.bench import peers
from atradiff.bench.machine import Machine
from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row
from atradiff.bench.workload import HALF_CHEETAH, mlp_bytes, mlp_flops
from atradiff.replay.buffer import Buffer
from atradiff.trajectory import Spec, Trajectory

STORED = 100_000
SAC_UPDATES = 100
"""Updates in one call."""
PLAIN = AgentConfig(
    width=256, depth=2, num_critics=2, num_min_critics=2, layer_norm=False, batch_size=256, utd_ratio=1,
    backup_entropy=True, target_entropy_scale=1.0, initial_temperature=1.0, acting_rate=1.0, imitation_weight=0.0,
)  # fmt: skip
ENSEMBLE = replace(PLAIN, num_critics=10, layer_norm=True, utd_ratio=20)


def sac_update(bench: Bench, config: AgentConfig = PLAIN, updates: int = SAC_UPDATES, stored: int = STORED) -> list[Row]:
    """SAC: each update draws a batch, and learns critics, targets, actor and temperature once."""
    contenders = [Contender(OURS, _ours(config, updates, stored, bench.device), bench.device)]
    if bench.peers:
        contenders += [
            peers.sb3_updates(HALF_CHEETAH, config, updates, stored, bench.device),
            peers.sbx_updates(HALF_CHEETAH, config, updates, stored, bench.device),
        ]
    floor = updates * update_floor(HALF_CHEETAH, config, bench.machine)
    return bench.measure(Contest("agent/sac", "updates/s", updates, contenders, floor))


def rlpd_block(bench: Bench, config: AgentConfig = ENSEMBLE, stored: int = STORED) -> list[Row]:
    """RLPD's block for one env step: `utd_ratio` updates of the ensemble, then one of actor and temperature."""
    contenders = [Contender(OURS, _ours(config, 1, stored, bench.device), bench.device)]
    if bench.peers:
        contenders += [
            peers.sbx_updates(HALF_CHEETAH, config, config.utd_ratio, stored, bench.device),
            peers.sbx_updates(HALF_CHEETAH, config, config.utd_ratio, stored, bench.device, dropout=0.01),
            peers.torchrl_redq(HALF_CHEETAH, config, stored, bench.device),
        ]
    floor = update_floor(HALF_CHEETAH, config, bench.machine)
    return bench.measure(Contest("agent/rlpd", "critic updates/s", config.utd_ratio, contenders, floor))


def _ours(config: AgentConfig, updates: int, stored: int, device: str) -> peers.Run:
    generator = torch.Generator(device).manual_seed(0)
    agent = make_agent(HALF_CHEETAH, config, torch.Generator().manual_seed(0), device)
    buffer = filled_buffer(HALF_CHEETAH, config, stored, device)

    def run(calls: int) -> None:
        for _ in range(calls * updates):
            agent.update(buffer.sample(config.batch_size * config.utd_ratio, generator), generator)

    return run


def filled_buffer(spec: Spec, config: AgentConfig, stored: int, device: str) -> Buffer:
    """A full buffer of random one-step transitions."""
    buffer = Buffer(stored, spec.observation_dim, spec.action_dim, 1, config.discount, device)
    random = np.random.default_rng(0)
    buffer.add_trajectory(
        Trajectory(
            states=random.standard_normal((stored + 1, spec.state_dim), np.float32),
            actions=random.uniform(-1, 1, (stored, spec.action_dim)).astype(np.float32),
            rewards=random.standard_normal(stored, np.float32),
            task=np.zeros(spec.task_dim, np.float32),
            terminated=False,
            truncated=True,
        )
    )
    return buffer


def update_floor(spec: Spec, config: AgentConfig, machine: Machine) -> float:
    """The least seconds of `utd_ratio` critic updates and one of the actor: their matrix products, or the weights, gradients and
    moments that Adam and the target networks read and write (10 times a critic's bytes, 7 times the actor's)."""
    hidden = [config.width] * config.depth
    actor, critic = [spec.observation_dim, *hidden, 2 * spec.action_dim], [spec.observation_dim + spec.action_dim, *hidden, 1]
    actor_forward, actor_learns = mlp_flops(actor, config.batch_size)
    critic_forward, critic_learns = mlp_flops(critic, config.batch_size)
    critics, targets = config.num_critics, min(config.num_min_critics, config.num_critics)
    critic_update = actor_forward + targets * critic_forward + critics * critic_learns
    actor_update = actor_learns + 2 * critics * critic_forward
    moved = config.utd_ratio * 10 * critics * mlp_bytes(critic) + 7 * mlp_bytes(actor)
    return machine.seconds(config.utd_ratio * critic_update + actor_update, moved)
