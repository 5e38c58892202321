"""The peers, each doing our jobs in its own usual way: the same sizes, the same number of updates, its own replay.

They are not installed with the program, so they are imported where they are used.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from atradiff.agents.actor_critic import AgentConfig
from atradiff.bench.measure import Contender
from atradiff.bench.workload import action_box
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser, NoiseConfig
from atradiff.diffusion.preconditioner import ConditionalGaussian, pin
from atradiff.diffusion.sampler import SamplerConfig, sample
from atradiff.errors import UserError
from atradiff.trajectory import Spec

Run = Callable[[int], None]
NEEDED = {"agent": ("stable_baselines3", "sbx", "torchrl"), "online": ("stable_baselines3", "sbx"), "sampler": ("diffusers",), "train": ("diffusers",)}
UNET_CHANNELS = (40, 80, 160, 320)
"""6.2 million parameters: no more than the transformer it is measured against has."""


def peer(name: str) -> Any:
    """A peer's module; raises `UserError` where it is not installed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the GPU's memory from the others
    os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")  # TorchRL tells of every replay
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        install = "pip install -c constraints.txt -e '.[bench]'"
        raise UserError(f"the peer {name} cannot be imported ({error}): install the peers with {install}, or leave --peers out") from error


def require_peers(jobs: Sequence[str]) -> None:
    """Refuse at once, and not after an hour, to measure beside peers that are not there."""
    for name in sorted({name for job in jobs for name in NEEDED.get(job, ())}):
        peer(name)


class Shapes(gym.Env[Any, Any]):
    """An environment that has only spaces: peers want one before they learn from a replay."""

    def __init__(self, spec: Spec) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (spec.observation_dim,), np.float32)
        self.action_space = action_box(spec)


def sb3_updates(spec: Spec, config: AgentConfig, updates: int, stored: int, device: str) -> Contender:
    """Stable-Baselines3: `updates` gradient steps in a call, from its own replay."""
    model = _sb3(Shapes(spec), config, stored, device)
    model.set_logger(peer("stable_baselines3.common.logger").Logger(None, []))
    _fill(model.replay_buffer, stored)

    def run(calls: int) -> None:
        for _ in range(calls):
            model.train(gradient_steps=updates, batch_size=config.batch_size)

    return Contender("stable-baselines3", run, device)


def sbx_updates(spec: Spec, config: AgentConfig, updates: int, stored: int, device: str, dropout: float = 0.0) -> Contender:
    """SBX: `updates` critic updates in one compiled call, and one of the actor for each `utd_ratio` of them."""
    model = _sbx(Shapes(spec), config, stored, dropout)
    model.set_logger(peer("stable_baselines3.common.logger").Logger(None, []))
    _fill(model.replay_buffer, stored)

    def run(calls: int) -> None:
        for _ in range(calls):  # each call ends by reading its losses, so nothing is left to wait for
            model.train(gradient_steps=updates, batch_size=config.batch_size)

    return Contender("sbx with dropout" if dropout else "sbx", run, _jax_device(device))


def sb3_online(environment: gym.Env[Any, Any], config: AgentConfig, stored: int, first_update: int, device: str) -> Contender:
    """Stable-Baselines3's own loop."""
    return _learner("stable-baselines3", _sb3(environment, config, stored, device, first_update), first_update, device)


def sbx_online(environment: gym.Env[Any, Any], config: AgentConfig, stored: int, first_update: int, device: str) -> Contender:
    """SBX's own loop."""
    return _learner("sbx", _sbx(environment, config, stored, first_update=first_update), first_update, _jax_device(device))


def _learner(impl: str, model: Any, first_update: int, device: str) -> Contender:
    model.learn(first_update)
    return Contender(impl, lambda calls: model.learn(calls, reset_num_timesteps=False), device)


def _sb3(environment: gym.Env[Any, Any], config: AgentConfig, stored: int, device: str, first_update: int = 0) -> Any:
    return peer("stable_baselines3").SAC(
        "MlpPolicy", environment, policy_kwargs={"net_arch": [config.width] * config.depth, "n_critics": config.num_critics},
        batch_size=config.batch_size, buffer_size=stored, learning_starts=first_update, device=device, seed=0,
    )  # fmt: skip


def _sbx(environment: gym.Env[Any, Any], config: AgentConfig, stored: int, dropout: float = 0.0, first_update: int = 0) -> Any:
    policy = {"net_arch": [config.width] * config.depth, "n_critics": config.num_critics, "layer_norm": config.layer_norm}
    return peer("sbx").SAC(
        "MlpPolicy", environment, policy_kwargs={**policy, "dropout_rate": dropout}, policy_delay=config.utd_ratio,
        batch_size=config.batch_size, buffer_size=stored, learning_starts=first_update, seed=0,
    )  # fmt: skip


def _jax_device(device: str) -> str:
    """Where JAX computes: on a GPU only if it was installed for it."""
    return device if device == "cpu" or peer("jax").default_backend() == "gpu" else "cpu"


def _fill(replay: Any, stored: int) -> None:
    """Random transitions, written where the replay keeps them."""
    random = np.random.default_rng(0)
    for values in (replay.observations, replay.next_observations, replay.rewards):
        values[:] = random.standard_normal(values.shape, np.float32)
    replay.actions[:] = random.uniform(-1, 1, replay.actions.shape)
    replay.pos, replay.full = stored - 1, True


def torchrl_redq(spec: Spec, config: AgentConfig, stored: int, device: str) -> Contender:
    """TorchRL's REDQLoss. It always evaluates the actor's loss, too; its gradient is taken only once in `utd_ratio` updates."""
    actor, critic = _torchrl_networks(spec, config)
    loss = peer("torchrl.objectives").REDQLoss(
        actor, critic, num_qvalue_nets=config.num_critics, sub_sample_len=config.num_min_critics, loss_function="l2"
    )
    loss.make_value_estimator(gamma=config.discount)
    loss = loss.to(device)
    target = peer("torchrl.objectives").SoftUpdate(loss, tau=config.tau)
    critics, actors = (
        list(part.flatten_keys().values()) for part in (loss.qvalue_network_params, loss.actor_network_params)
    )
    critic_optimizer = torch.optim.Adam(critics, lr=config.critic_learning_rate, fused=True)
    actor_optimizer = torch.optim.Adam([*actors, loss.log_alpha], lr=config.actor_learning_rate, fused=True)
    replay = _torchrl_replay(spec, stored, config.batch_size * config.utd_ratio, device)

    def run(calls: int) -> None:
        for _ in range(calls):
            batches = replay.sample().split(config.batch_size)
            for batch in batches:
                losses = loss(batch)
                last = batch is batches[-1]
                total: Tensor = losses["loss_qvalue"] + (losses["loss_actor"] + losses["loss_alpha"] if last else 0)
                critic_optimizer.zero_grad()
                actor_optimizer.zero_grad()
                total.backward()
                critic_optimizer.step()
                if last:
                    actor_optimizer.step()
                target.step()

    return Contender("torchrl", run, device)


def _torchrl_networks(spec: Spec, config: AgentConfig) -> tuple[Any, Any]:
    modules, data = peer("torchrl.modules"), peer("torchrl.data")
    module = peer("tensordict.nn").TensorDictModule
    hidden = [config.width] * config.depth
    mean_and_scale = torch.nn.Sequential(
        modules.MLP(spec.observation_dim, 2 * spec.action_dim, num_cells=hidden, activation_class=torch.nn.ReLU),
        peer("tensordict.nn").NormalParamExtractor(),
    )
    actor = modules.ProbabilisticActor(
        module(mean_and_scale, in_keys=["observation"], out_keys=["loc", "scale"]),
        spec=data.Bounded(torch.tensor(spec.action_low), torch.tensor(spec.action_high)),
        in_keys=["loc", "scale"], distribution_class=modules.TanhNormal, return_log_prob=True,
    )  # fmt: skip
    norm = {"norm_class": torch.nn.LayerNorm, "norm_kwargs": {"normalized_shape": config.width}} if config.layer_norm else {}
    critic = modules.MLP(spec.observation_dim + spec.action_dim, 1, num_cells=hidden, activation_class=torch.nn.ReLU, **norm)
    return actor, modules.ValueOperator(critic, in_keys=["observation", "action"])


def _torchrl_replay(spec: Spec, stored: int, batch_size: int, device: str) -> Any:
    data = peer("torchrl.data")
    replay = data.TensorDictReplayBuffer(storage=data.LazyTensorStorage(stored, device=device), batch_size=batch_size)
    ends = torch.zeros(stored, 1, dtype=torch.bool)
    arrived = {"observation": torch.randn(stored, spec.observation_dim), "reward": torch.randn(stored, 1), "done": ends, "terminated": ends}
    transitions = {"observation": torch.randn(stored, spec.observation_dim), "action": torch.rand(stored, spec.action_dim) * 2 - 1, "next": arrived}
    replay.extend(peer("tensordict").TensorDict(transitions, batch_size=[stored]))
    return replay


class UNetDenoiser(Denoiser):
    """Diffuser's temporal U-Net (Janner et al. 2022), as diffusers builds it, under plain EDM: one variance of 1 for all, the first
    state pinned, no other condition. Our own sampler and `fit` serve it, so that only the networks differ."""

    def __init__(self, windows: Windows, gaussian: ConditionalGaussian) -> None:
        super().__init__(windows.normalizer, gaussian, windows.horizon, NetworkConfig("mlp", width=8, depth=1), NoiseConfig())
        channels, levels = windows.normalizer.num_channels, len(UNET_CHANNELS)
        self.backbone = peer("diffusers").UNet1DModel(
            sample_size=windows.horizon, in_channels=channels, out_channels=channels, block_out_channels=UNET_CHANNELS,
            down_block_types=("DownResnetBlock1D",) * levels, up_block_types=("UpResnetBlock1D",) * (levels - 1),
            mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock", act_fn="mish",
            time_embedding_type="positional", use_timestep_embedding=True, flip_sin_to_cos=False, freq_shift=1,
        )  # fmt: skip

    def denoise(self, x: Tensor, sigma: Tensor, state: Tensor, task: Tensor) -> Tensor:
        """D(x; sigma) of EDM (eq. 7) with sigma_data = 1."""
        del task
        level = sigma[:, None, None]
        c_in = (1 + level**2).rsqrt()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):  # our networks have it too
            raw = self.backbone((c_in * x).mT, 250 * sigma.log()).sample.mT
        return pin(c_in**2 * x + level * c_in * raw.float(), state)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Whole rows `(H, C)`: there is no Gaussian whose coefficients the solver could work on."""
        return self.horizon, self.normalizer.num_channels

    def _solve_ode(self, state: Tensor, condition: Tensor, noise: Tensor, config: SamplerConfig, generator: torch.Generator | None) -> Tensor:
        """As `Denoiser`'s, on rows."""
        task = condition[:, state.shape[1] :]
        return sample(lambda x, sigma: self.denoise(x, torch.full((len(x),), sigma, device=x.device), state, task), noise, config, generator)
