"""What the jobs work on, and the counting of its FLOPs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atradiff.bench.agent import ENSEMBLE, PLAIN, filled_buffer, update_floor
from atradiff.bench.machine import Machine
from atradiff.bench.workload import HALF_CHEETAH, denoising_flops, make_denoiser, make_gaussian, make_windows, mlp_flops, walks
from atradiff.diffusion.backbone import NetworkConfig

COMPUTING = Machine("cpu", threads=1, flops_per_second=1e9, bytes_per_second=float("inf"))


def test_flops_of_a_plain_network_are_those_that_torch_counts() -> None:
    sizes, batch = [5, 16, 8, 3], 7
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    with FlopCounterMode(display=False) as forward:
        out = network(torch.randn(batch, sizes[0]))
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    told_forward, told_learning = mlp_flops(sizes, batch)
    assert told_forward == forward.get_total_flops()
    assert told_learning == forward.get_total_flops() + backward.get_total_flops()


def test_the_floor_of_an_update_grows_with_its_parts() -> None:
    once = update_floor(HALF_CHEETAH, replace(ENSEMBLE, utd_ratio=1), COMPUTING)
    twice = update_floor(HALF_CHEETAH, replace(ENSEMBLE, utd_ratio=2), COMPUTING)
    thrice = update_floor(HALF_CHEETAH, replace(ENSEMBLE, utd_ratio=3), COMPUTING)
    assert thrice - twice == pytest.approx(twice - once)  # linear in critic updates, with the actor's once
    assert once > twice - once
    doubled = replace(PLAIN, batch_size=2 * PLAIN.batch_size)
    assert update_floor(HALF_CHEETAH, doubled, COMPUTING) == pytest.approx(2 * update_floor(HALF_CHEETAH, PLAIN, COMPUTING))


def test_evaluations_are_linear_in_the_batch() -> None:
    windows = make_windows(8, "cpu", transitions=600)
    denoiser = make_denoiser(windows, make_gaussian(windows), NetworkConfig("dit", width=16, depth=1, heads=2, patch=4))
    assert denoising_flops(denoiser, 6) == 3 * denoising_flops(denoiser, 2) > 0


def test_walks_are_whole_episodes_that_end_where_they_arrive() -> None:
    data = walks(950, episode_steps=100)
    assert data.num_transitions == 1_000
    assert (data.episode_lengths == 100).all()
    closing = data.episode_ends - 1
    assert (data.actions[closing] == 0).all()
    distance = np.linalg.norm(data.states[closing, :2] - data.tasks, axis=1)
    assert distance[data.episode_terminated].max(initial=0.0) < distance[~data.episode_terminated].min(initial=np.inf)
    assert data.rewards.max() == 1.0


def test_a_filled_buffer_is_full_and_bootstraps() -> None:
    buffer = filled_buffer(HALF_CHEETAH, PLAIN, 500, "cpu")
    assert len(buffer) == 500
    batch = buffer.sample(64, torch.Generator().manual_seed(0))
    assert batch.observation.shape == (64, 17)
    torch.testing.assert_close(batch.discount, torch.full((64,), PLAIN.discount))
