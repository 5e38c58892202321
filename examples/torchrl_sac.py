"""TorchRL's SAC with imagination in its replay.

    pip install -c constraints.txt torchrl
    python examples/torchrl_sac.py --project . --steps 5000
"""

from __future__ import annotations

import argparse

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

from atradiff.api import make_environment
from atradiff.integrations.torchrl import ImaginingReplayBuffer

FRAMES = 50

parser = argparse.ArgumentParser()
parser.add_argument("--project", default=".", help="folder with params.yaml, where `dvc repro` has run")
parser.add_argument("--steps", type=int, default=5_000)
arguments = parser.parse_args()


class Network(torch.nn.Module):
    """An MLP over all of its inputs side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = MLP(in_features=inputs, out_features=outputs, num_cells=[128, 128])

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([part.float() for part in parts], dim=-1))


torch.manual_seed(0)
environment = GymWrapper(make_environment(arguments.project))
buffer = ImaginingReplayBuffer(arguments.project, batch_size=128)
spec = buffer.replay.synthesizer.spec
seen = ["observation", "desired_goal"] if spec.task_dim else ["observation"]
body = TensorDictSequential(
    TensorDictModule(Network(spec.observation_dim, 2 * spec.action_dim), in_keys=seen, out_keys=["parameters"]),
    TensorDictModule(NormalParamExtractor(), in_keys=["parameters"], out_keys=["loc", "scale"]),
)
bounds = {"low": environment.action_spec.space.low, "high": environment.action_spec.space.high}
actor = ProbabilisticActor(
    body,
    spec=environment.action_spec,
    in_keys=["loc", "scale"],
    distribution_class=TanhNormal,
    distribution_kwargs=bounds,
    return_log_prob=True,
)
value = ValueOperator(Network(spec.observation_dim + spec.action_dim, 1), in_keys=[*seen, "action"])
loss = SACLoss(actor, value, num_qvalue_nets=2, alpha_init=0.01)
loss.make_value_estimator(gamma=buffer.gamma)
target = SoftUpdate(loss, tau=0.005)
optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)

collector = Collector(environment, actor, frames_per_batch=FRAMES, total_frames=arguments.steps, auto_register_policy_transforms=True)
for data in collector:
    buffer.extend(data)
    for _ in range(FRAMES):
        values = loss(buffer.sample())
        optimizer.zero_grad()
        (values["loss_actor"] + values["loss_qvalue"] + values["loss_alpha"]).backward()
        optimizer.step()
        target.step()

replay = buffer.replay.mixed
print(f"{len(replay.online):,} real and {len(replay.synthetic):,} imagined transitions, {replay.synthetic_share:.0%} imagined since the first env step")
