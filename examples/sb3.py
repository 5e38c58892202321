"""Stable-Baselines3's agents, or SBX's, with imagination in their replay.

    pip install -c constraints.txt stable-baselines3        # or sbx-rl
    python examples/sb3.py --project . --algorithm SAC --steps 5000
"""

from __future__ import annotations

import argparse
import importlib

from atradiff.api import make_environment
from atradiff.integrations.sb3 import ImaginingReplayBuffer

parser = argparse.ArgumentParser()
parser.add_argument("--project", default=".", help="folder with params.yaml, where `dvc repro` has run")
parser.add_argument("--library", default="stable_baselines3", choices=["stable_baselines3", "sbx"])
parser.add_argument("--algorithm", default="SAC", choices=["SAC", "TD3", "DDPG"])
parser.add_argument("--steps", type=int, default=5_000)
arguments = parser.parse_args()

environment = make_environment(arguments.project)
has_goals = hasattr(environment.observation_space, "spaces")  # a Dict, as in the mazes
if has_goals and (arguments.library, arguments.algorithm) == ("sbx", "DDPG"):
    parser.error("SBX's DDPG has no policy for an environment with goals: take --algorithm TD3 or SAC, or --library stable_baselines3")
algorithm = getattr(importlib.import_module(arguments.library), arguments.algorithm)
model = algorithm(
    "MultiInputPolicy" if has_goals else "MlpPolicy",
    environment,
    replay_buffer_class=ImaginingReplayBuffer,
    replay_buffer_kwargs={"project": arguments.project},
    gamma=0.99,
    seed=0,
    **({"ent_coef": 0.01} if arguments.algorithm == "SAC" else {}),  # the entropy bonus that SAC sets for itself drowns a sparse reward
)
model.learn(arguments.steps)

replay = model.replay_buffer.replay.mixed
print(f"{len(replay.online):,} real and {len(replay.synthetic):,} imagined transitions, {replay.synthetic_share:.0%} imagined since the first env step")
