"""Imagination inside Stable-Baselines3, SBX and TorchRL: each library really trains, with the maze's models of a moment."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import toys
from atradiff.api import Synthesizer
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import stack_trajectories
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import NoiseConfig, train_denoiser
from atradiff.diffusion.preconditioner import PreconditionerConfig
from atradiff.diffusion.training import TrainConfig
from atradiff.errors import UserError
from atradiff.integrations.sb3 import ImaginingReplayBuffer
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator
from atradiff.synthesis.synthesizer import SynthesisConfig
from atradiff.synthesis.synthesizer import Synthesizer as Inner
from atradiff.trajectory import Source, Spec, Trajectory

with warnings.catch_warnings():  # on import the one uses names of JAX that are going, the other a class of its own that is
    warnings.simplefilter("ignore", DeprecationWarning)
    import sbx
    from torchrl.collectors import Collector

gym.register_envs(gymnasium_robotics)
STEPS = 300


def maze() -> gym.Env:
    return gym.make("PointMaze_UMaze-v3", continuing_task=False, max_episode_steps=12)


def model(algorithm: Any, project: Path, env: Any = None, policy: str = "MultiInputPolicy", **settings: Any) -> Any:
    kwargs = {"project": project, "synthetic_ratio": 0.5, "n_steps": 3, "warm_start": 0, **settings.pop("replay", {})}
    return algorithm(
        policy, env or maze(), replay_buffer_class=ImaginingReplayBuffer, replay_buffer_kwargs=kwargs, buffer_size=1_000,
        learning_starts=20, batch_size=16, policy_kwargs={"net_arch": [16]}, seed=0, device="cpu", **settings,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", [stable_baselines3.SAC, stable_baselines3.TD3, stable_baselines3.DDPG, sbx.SAC, sbx.TD3])
def test_it_trains(algorithm: Any, online_project: Layout) -> None:
    trained = model(algorithm, online_project.root)
    trained.learn(STEPS)
    buffer = trained.replay_buffer
    assert buffer.size() == STEPS
    assert buffer.replay.mixed.synthetic_share == pytest.approx(0.5, abs=0.05)
    sample = buffer.sample(16)
    assert set(sample.observations) == {"observation", "achieved_goal", "desired_goal"}
    assert sample.actions.abs().max() <= 1
    assert sample.discounts.shape == sample.rewards.shape == sample.dones.shape == (16, 1)
    action, _ = trained.predict(maze().reset(seed=0)[0], deterministic=True)
    assert np.isfinite(action).all()


@pytest.mark.parametrize("warm_start", [None, 5])
def test_it_imagines_before_the_first_env_step(online_project: Layout, warm_start: int | None) -> None:
    """As many trajectories as an online run does, or as asked for; they do not count in the share."""
    replay = model(stable_baselines3.SAC, online_project.root, replay={"warm_start": warm_start}).replay_buffer.replay
    asked = replay.synthesizer.params.online.warm_start_trajectories if warm_start is None else warm_start
    begun = replay.mixed.synthetic.added
    assert asked <= begun == replay.mixed.warm_start_transitions
    assert len(replay.mixed.online) == replay.mixed.synthetic_share == 0


def test_real_steps_arrive_as_the_library_stores_them(online_project: Layout) -> None:
    """Beside its own buffer, and the imagined ones have the achieved goal of their state."""
    own = stable_baselines3.SAC("MultiInputPolicy", maze(), learning_starts=20, seed=0, policy_kwargs={"net_arch": [16]}, buffer_size=100)
    ours = model(stable_baselines3.SAC, online_project.root, replay={"n_steps": 1, "synthetic_ratio": 0.3})
    for trained in (own, ours):
        trained.learn(20)
    theirs, found = own.replay_buffer, ours.replay_buffer.replay.mixed.online.last(20)
    assert np.allclose(found.action, theirs.actions[:20, 0])
    expected = np.concatenate([theirs.observations[key][:20, 0] for key in ("observation", "desired_goal")], axis=-1)
    following = np.concatenate([theirs.next_observations[key][:20, 0] for key in ("observation", "desired_goal")], axis=-1)
    assert np.allclose(found.observation, expected)
    assert np.allclose(found.next_observation, following)
    ended = theirs.dones[:20, 0] * (1 - theirs.timeouts[:20, 0])
    assert np.array_equal(found.discount == 0, ended == 1)
    sample = ours.replay_buffer.sample(32)
    assert torch.equal(sample.observations["achieved_goal"], sample.observations["observation"][:, :2])


def require_targets_within_an_environment(observation: torch.Tensor, following: torch.Tensor, discount: torch.Tensor, gamma: float) -> None:
    """Of one environment's transitions in their order: where three steps went on, the target bootstraps from the observation three steps on."""
    going_on = torch.isclose(discount, torch.tensor(gamma**3))
    whole = torch.nonzero(going_on[:-4] & going_on[1:-3]).flatten()  # the last of these bootstraps from an episode's end
    assert len(whole) > 20
    assert torch.equal(following[whole], observation[whole + 3])


def test_several_environments_have_targets_of_their_own(online_project: Layout) -> None:
    trained = model(stable_baselines3.SAC, online_project.root, DummyVecEnv([maze, maze]))
    trained.learn(STEPS)
    assert trained.replay_buffer.size() == STEPS
    real = trained.replay_buffer.replay.mixed.online.last(STEPS)
    for first in (0, 1):
        require_targets_within_an_environment(real.observation[first::2], real.next_observation[first::2], real.discount[first::2], trained.gamma)


def test_normalised_environments_normalise_imagination(online_project: Layout) -> None:
    environment = VecNormalize(DummyVecEnv([maze]), norm_obs_keys=["observation"])
    trained = model(stable_baselines3.SAC, online_project.root, environment)
    trained.learn(100)
    buffer = trained.replay_buffer
    state = buffer.replay._generators["replay"].get_state()
    raw = buffer.sample(32)
    buffer.replay._generators["replay"].set_state(state)
    normalised = buffer.sample(32, env=environment)
    expected = environment.normalize_obs({key: value.numpy() for key, value in raw.observations.items()})
    assert np.allclose(normalised.observations["observation"], expected["observation"], atol=1e-5)
    assert not np.allclose(normalised.observations["observation"], raw.observations["observation"])
    assert np.allclose(normalised.rewards, environment.normalize_reward(raw.rewards.numpy()), atol=1e-5)


@pytest.mark.parametrize(
    ("replay", "told"),
    [
        ({"goal_selection_strategy": "future"}, "hindsight relabelling \\(HER\\) is not supported"),
        ({"synthetic_rato": 0.3}, "unknown key 'synthetic_rato', did you mean synthetic_ratio"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(online_project: Layout, replay: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        model(stable_baselines3.SAC, online_project.root, replay=replay)


def test_other_environments_are_refused(online_project: Layout) -> None:
    with pytest.raises(UserError, match=r"sizes are \(2, 0\), but those of the project's data are \(4, 2\)"):
        model(stable_baselines3.SAC, online_project.root, toys.Balance(), "MlpPolicy")


def test_the_replay_buffer_is_saved_and_loaded(online_project: Layout) -> None:
    trained = model(stable_baselines3.SAC, online_project.root)
    trained.learn(60)
    file = io.BytesIO()
    pickle.dump(trained.replay_buffer, file)
    file.seek(0)
    again = pickle.load(file)
    assert again.size() == 60
    assert torch.equal(again.sample(8).rewards, trained.replay_buffer.sample(8).rewards)


@pytest.fixture(scope="session")
def balance() -> Synthesizer:
    """Models of `toys.Balance`, whose observations are a Box, after random pushes."""
    environment, random, trajectories = toys.Balance(), np.random.default_rng(0), []
    for episode in range(40):
        states = [environment.reset(seed=episode)[0]]
        actions = random.uniform(-1, 1, (30, 1)).astype(np.float32)
        steps = [environment.step(action) for action in actions]
        states += [step[0] for step in steps]
        rewards = np.float32([step[1] for step in steps])
        trajectories.append(Trajectory(np.stack(states), actions, rewards, np.zeros(0, np.float32), False, True))
    offline = stack_trajectories(trajectories, Spec(2, 1, 0, (-1.0,), (1.0,)))
    normalizer = Normalizer.of(offline)
    parts = NetworkConfig(backbone="mlp", width=16, depth=1), PreconditionerConfig(width=8, gradient_steps=10, windows=300), NoiseConfig()
    denoiser = train_denoiser(Windows(offline, 8, normalizer), *parts, TrainConfig(gradient_steps=20, batch_size=32), toys.generator(), lambda _: None)
    estimator = LengthEstimator(normalizer, EstimatorNetworkConfig(width=16, depth=1), scale=10.0)
    params = replace(Params(), synthesis=SynthesisConfig(batch_size=4))
    return Synthesizer(Inner(DenoiserBank([denoiser]), estimator, params.synthesis, epsilon=0.0, time_limit=30), params)


@pytest.mark.parametrize("algorithm", [stable_baselines3.SAC, sbx.SAC])
def test_box_observations(algorithm: Any, balance: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Synthesizer, "load", lambda project, seed: balance)
    environment = gym.wrappers.TimeLimit(toys.Balance(), 30)
    trained = model(algorithm, Path(), environment, "MlpPolicy")
    trained.learn(100)
    assert trained.replay_buffer.sample(8).observations.shape == (8, 2)
    assert trained.replay_buffer.replay.mixed.synthetic_share == pytest.approx(0.5, abs=0.1)


def torchrl_parts(project: Path, **settings: Any) -> tuple[Any, Callable[[], Any]]:
    from torchrl.envs import GymWrapper

    from atradiff.integrations.torchrl import ImaginingReplayBuffer

    return ImaginingReplayBuffer(project, batch_size=16, synthetic_ratio=0.5, **{"warm_start": 0, **settings}), lambda: GymWrapper(maze())


def test_torchrl_trains(online_project: Layout) -> None:
    from tensordict.nn import TensorDictModule, TensorDictSequential
    from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import SACLoss, SoftUpdate

    buffer, make = torchrl_parts(online_project.root, n_steps=3)
    environment = make()
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.net = MLP(in_features=inputs, out_features=outputs, num_cells=[16])

        def forward(self, *parts: torch.Tensor) -> torch.Tensor:
            return self.net(torch.cat([part.float() for part in parts], dim=-1))

    seen = ["observation", "desired_goal"]
    body = TensorDictSequential(
        TensorDictModule(Net(6, 4), in_keys=seen, out_keys=["parameters"]),
        TensorDictModule(NormalParamExtractor(), in_keys=["parameters"], out_keys=["loc", "scale"]),
    )
    actor = ProbabilisticActor(
        body, spec=environment.action_spec, in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=True
    )
    loss = SACLoss(actor, ValueOperator(Net(8, 1), in_keys=[*seen, "action"]), num_qvalue_nets=2)
    loss.make_value_estimator(gamma=buffer.gamma)
    target, optimizer = SoftUpdate(loss, tau=0.05), torch.optim.Adam(loss.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in loss.parameters()]
    for data in Collector(environment, actor, frames_per_batch=30, total_frames=STEPS, auto_register_policy_transforms=True):
        buffer.extend(data)
        batch = buffer.sample()
        values = loss(batch)
        total = values["loss_actor"] + values["loss_qvalue"] + values["loss_alpha"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        target.step()
        assert torch.isfinite(total)
    assert len(buffer.replay.mixed.online) == STEPS
    assert buffer.replay.mixed.synthetic_share == pytest.approx(0.5, abs=0.05)
    assert not all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_torchrl_begins_with_imagination(online_project: Layout) -> None:
    buffer, _ = torchrl_parts(online_project.root, warm_start=None)
    assert len(buffer) == buffer.replay.mixed.warm_start_transitions > 0


def test_torchrl_discounts_by_the_steps_of_each_target(online_project: Layout) -> None:
    buffer, make = torchrl_parts(online_project.root, n_steps=3)
    buffer.extend(make().rollout(40, break_when_any_done=False))
    state = buffer.replay._generators["replay"].get_state()
    ours = buffer.replay.sample(64)
    buffer.replay._generators["replay"].set_state(state)
    theirs = buffer.sample(64)
    going = ours.discount > 0
    assert torch.allclose(buffer.gamma ** theirs["steps_to_next_obs"][going, 0], ours.discount[going])
    assert torch.equal(theirs["next", "terminated"][:, 0], ~going)
    assert torch.equal(torch.cat([theirs["observation"], theirs["desired_goal"]], dim=-1), ours.observation)
    assert set(ours.source.tolist()) == {int(Source.ONLINE), int(Source.IMAGINED)}


def test_torchrl_collects_in_several_environments(online_project: Layout) -> None:
    buffer, make = torchrl_parts(online_project.root, n_steps=3)
    buffer.extend(torch.stack([make().rollout(40, break_when_any_done=False) for _ in range(2)]))
    real = buffer.replay.mixed.online.last(80)
    for part in (slice(40), slice(40, None)):
        require_targets_within_an_environment(real.observation[part], real.next_observation[part], real.discount[part], buffer.gamma)
