"""An agent of one's own beside imagination: here one that acts at random and learns nothing.

    python examples/python_api.py --project . --steps 500
"""

from __future__ import annotations

import argparse

import numpy as np

from atradiff.api import ImaginingReplay, Synthesizer, make_environment

parser = argparse.ArgumentParser()
parser.add_argument("--project", default=".", help="folder with params.yaml, where `dvc repro` has run")
parser.add_argument("--steps", type=int, default=500)
arguments = parser.parse_args()

synthesizer = Synthesizer.load(arguments.project)
environment = make_environment(arguments.project)


def split(observation: dict[str, np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State and task; what is no goal environment has no task."""
    if isinstance(observation, dict):
        return np.float32(observation["observation"]), np.float32(observation["desired_goal"])
    return np.float32(observation), np.zeros(0, np.float32)


environment.action_space.seed(0)
observation, _ = environment.reset(seed=0)
state, task = split(observation)
first = synthesizer(state, task)[0]
print(f"imagined from the first state: {len(first)} steps, return {first.episode_return:.2f}, terminated {first.terminated}")

replay = ImaginingReplay(synthesizer)
replay.warm_start()  # imagine before the first env step, as an online run does
for _ in range(arguments.steps):
    action = environment.action_space.sample()  # your agent acts here
    observation, reward, terminated, truncated, _ = environment.step(action)
    next_state, _ = split(observation)
    replay.add(state, task, np.float32(action), float(reward), next_state, terminated, truncated)
    if terminated or truncated:
        observation, _ = environment.reset()
    state, task = split(observation)
    batch = replay.sample(64)  # and learns from this one here: observation, action, reward, next_observation, discount

replay_share = replay.mixed.synthetic_share
print(f"{len(replay.mixed.online):,} real and {len(replay.mixed.synthetic):,} imagined transitions, {replay_share:.0%} imagined since the first env step")
