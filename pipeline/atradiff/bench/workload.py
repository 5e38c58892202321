"""What the jobs work on: made-up data of the usual shapes, so that a bench needs no dataset and no trained model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from torch.utils.flop_counter import FlopCounterMode

from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData, pack_rows
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig
from atradiff.diffusion.preconditioner import ConditionalGaussian, PreconditionerConfig, fit_gaussian
from atradiff.diffusion.training import TrainConfig
from atradiff.trajectory import Spec

HALF_CHEETAH = Spec(state_dim=17, action_dim=6, task_dim=0, action_low=(-1.0,) * 6, action_high=(1.0,) * 6)
POINT_MAZE = Spec(4, 2, 2, (-1.0, -1.0), (1.0, 1.0), reward_values=(0.0, 1.0), reward_minimum=0.0)
EPISODE_STEPS = 300
TIME_STEP = 0.05
REACHED = 0.3
NETWORKS = {"dit": NetworkConfig("dit", width=256, depth=6, heads=4, patch=4), "mlp": NetworkConfig()}
"""7 million parameters as a transformer, and the tasks' default."""
BYTES = 4
"""Of a float32."""


def action_box(spec: Spec) -> spaces.Box:
    """The action space of `spec`."""
    return spaces.Box(np.asarray(spec.action_low, np.float32), np.asarray(spec.action_high, np.float32), dtype=np.float32)


def walks(transitions: int, episode_steps: int = EPISODE_STEPS) -> OfflineData:
    """Points that are drawn to random goals, in PointMaze's shapes: whole episodes of equal length, at least `transitions` in all."""
    random = np.random.default_rng(0)
    episodes = -(-transitions // episode_steps)
    position, goal = random.uniform(-3, 3, (2, episodes, 2)).astype(np.float32)
    velocity = np.zeros_like(position)
    states = np.zeros((episodes, episode_steps + 1, 4), np.float32)
    actions = np.zeros((episodes, episode_steps + 1, 2), np.float32)
    for step in range(episode_steps + 1):
        states[:, step] = np.concatenate([position, velocity], axis=1)
        actions[:, step] = np.clip(goal - position - velocity + 0.5 * random.standard_normal(position.shape, np.float32), -1, 1)
        velocity = velocity + TIME_STEP * actions[:, step]
        position = position + TIME_STEP * velocity
    actions[:, -1] = 0.0
    reached = np.linalg.norm(states[:, :, :2] - goal[:, None], axis=-1) < REACHED
    rewards = np.where(np.arange(episode_steps + 1) < episode_steps, reached, False).astype(np.float32)
    return OfflineData(
        spec=POINT_MAZE,
        rows=pack_rows(states.reshape(-1, 4), actions.reshape(-1, 2), rewards.reshape(-1)),
        tasks=goal,
        episode_ends=np.arange(1, episodes + 1) * (episode_steps + 1),
        episode_terminated=reached[:, -1],
    )


def make_windows(horizon: int, device: str, transitions: int = 20_000) -> Windows:
    """Windows of `horizon` rows over made-up walks."""
    data = walks(transitions)
    return Windows(data, horizon, Normalizer.of(data), device)


def make_gaussian(windows: Windows) -> ConditionalGaussian:
    """The windows' Gaussian, of the rank that trained ones have; its mean is not trained, which takes nothing off the work."""
    config = PreconditionerConfig(gradient_steps=1, windows=4_000)
    return fit_gaussian(windows, config, TrainConfig(), torch.Generator().manual_seed(0), lambda progress: None)


def make_denoiser(windows: Windows, gaussian: ConditionalGaussian, network: NetworkConfig) -> Denoiser:
    """A denoiser with fresh weights."""
    denoiser = Denoiser(windows.normalizer, gaussian, windows.horizon, network, NoiseConfig())
    return denoiser.to(windows.device).eval()


@torch.no_grad()
def denoising_flops(denoiser: Denoiser, batch_size: int) -> float:
    """FLOPs of the matrix products in one evaluation of the denoiser."""
    spec, device = denoiser.normalizer.spec, denoiser.gaussian.variance.device
    rows = torch.randn(batch_size, denoiser.horizon, denoiser.normalizer.num_channels, device=device)
    sigma, state, task = (torch.ones(batch_size, *shape, device=device) for shape in ((), (spec.state_dim,), (spec.task_dim,)))
    with FlopCounterMode(display=False) as counter:
        denoiser.denoise(rows, sigma, state, task)
    return counter.get_total_flops()


def weight_bytes(denoiser: Denoiser) -> int:
    """Bytes of the weights that learn."""
    return sum(p.numel() for p in denoiser.parameters() if p.requires_grad) * BYTES


def mlp_flops(sizes: list[int], batch_size: int) -> tuple[float, float]:
    """FLOPs of a plain network from `sizes[0]` inputs to `sizes[-1]` outputs: forward, and forward with the gradients of its weights."""
    layers = [2.0 * batch_size * a * b for a, b in pairwise(sizes)]
    return sum(layers), 3 * sum(layers) - layers[0]


def mlp_bytes(sizes: list[int]) -> int:
    """Bytes of its weights and biases."""
    return sum((a + 1) * b for a, b in pairwise(sizes)) * BYTES
