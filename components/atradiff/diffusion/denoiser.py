"""The denoiser D(x; sigma): EDM (Karras et al. 2022) around a raw network, with the first state pinned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from typing_extensions import Doc

from atradiff import products
from atradiff.data.normalizer import Normalizer
from atradiff.data.windows import WindowBatch, Windows
from atradiff.diffusion.backbone import NetworkConfig, RawNetwork, at_levels, in_bfloat16, make_backbone
from atradiff.diffusion.preconditioner import ConditionalGaussian, PreconditionerConfig, fit_gaussian, pin
from atradiff.diffusion.sampler import SamplerConfig, asked_levels, sample
from atradiff.diffusion.training import Progress, TrainConfig, fit
from atradiff.graphs import Graphed, in_bucket, to_numpy
from atradiff.trajectory import Array


@dataclass(frozen=True)
class NoiseConfig:
    """The noise levels a denoiser is trained on: log-normal (Karras et al. 2022, table 1)."""

    log_mean: Annotated[float, Doc("Mean of the logarithm of the training noise level.")] = -0.5
    log_std: Annotated[float, Gt(0), Doc("Standard deviation of that logarithm.")] = 2.0


class Denoiser(nn.Module):
    """D(x; sigma | first state, task) for windows of one horizon, in normalised units.

    rows `[B, H, C]`; state `[B, O]` and task `[B, K]` are the condition. Row 0's state is the given one, always.
    """

    def __init__(self, normalizer: Normalizer, gaussian: ConditionalGaussian, horizon: int, network: NetworkConfig, noise: NoiseConfig) -> None:
        super().__init__()
        spec = normalizer.spec
        self.normalizer = normalizer
        self.gaussian = gaussian
        self.horizon = horizon
        self.network_config = network
        self.noise_config = noise
        self.state_dim = spec.state_dim
        self._solve = Graphed(self._solve_ode)
        self.backbone = make_backbone(network, gaussian, horizon, normalizer.num_channels, spec.state_dim + spec.task_dim)
        patches = horizon // network.patch if network.backbone == "dit" else 1
        self._flops = patches * products.largest(self.backbone.parameters())  # of a window's largest product

    def denoise(self, x: Tensor, sigma: Tensor, state: Tensor, task: Tensor) -> Tensor:
        """D(x; sigma) of windows `x [B, H, C]` at noise levels `sigma [B]`: in the directions of the conditional Gaussian, around its mean."""
        condition = torch.cat([state, task], dim=-1)
        mean = self.gaussian.mean(condition)
        network = self.raw_network()
        z = self.denoise_coefficients(self.gaussian.project(x - mean), sigma, lambda z: network(z, sigma.log() / 4, condition))
        return pin(mean + self.gaussian.lift(z), state)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of what the solver begins with, for one window: coefficients `(R,)`."""
        return (self.gaussian.rank,)

    def raw_network(self) -> RawNetwork:
        """F: on a GPU it computes in bfloat16, whose error c_out makes small where noise is small."""
        return in_bfloat16(self.backbone) if self.gaussian.variance.is_cuda else self.backbone

    def denoise_coefficients(self, z: Tensor, sigma: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """D(z; sigma) = c_skip z + c_out F(c_in z) (eq. 7) of coefficients `z [B, R]`, from sigma `[B]` or `[1]` and F at its noise level.

        Along each direction the data's variance v takes the place of sigma_data^2:
        c_skip = v / (v + sigma^2), c_out = sigma sqrt(v / (v + sigma^2)), c_in = 1 / sqrt(v + sigma^2).
        """
        level = sigma[:, None]
        variance = self.gaussian.variance
        c_in = (variance + level**2).rsqrt()
        c_skip, c_out = variance * c_in**2, level * variance.sqrt() * c_in
        return c_skip * z + c_out * network(c_in * z).float()

    def loss(self, batch: WindowBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted denoising loss (eq. 8), over valid rows."""
        where = generator.device
        log_sigma = torch.randn(len(batch.rows), generator=generator, device=where) * self.noise_config.log_std + self.noise_config.log_mean
        noise = torch.randn(batch.rows.shape, generator=generator, device=where)
        loss = self.loss_at(batch, log_sigma.exp().to(batch.rows), noise.to(batch.rows)).mean()
        return loss, {"loss": loss.detach()}

    def loss_at(self, batch: WindowBatch, sigma: Tensor, noise: Tensor) -> Tensor:
        """The loss of each window `[B]` at given noise levels `[B]` and noise `[B, H, C]`."""
        state = batch.rows[:, 0, : self.state_dim]
        estimate = self.denoise(batch.rows + sigma[:, None, None] * noise, sigma, state, batch.task)
        squared = (estimate - batch.rows).square().mean(-1) * batch.valid
        return (1 + sigma**-2) * squared.sum(-1) / batch.valid.sum(-1)

    @torch.no_grad()
    def sample(self, states: Array, tasks: Array, config: SamplerConfig, generator: torch.Generator) -> Array:
        """Imagine windows from `states [B, O]` under `tasks [B, K]`, both in the task's units.

        The solver works on coefficients: what noise has beside the Gaussian's directions, the denoiser would take away.
        Returns normalised rows `[B, H, C]`; `normalizer.split` gives them back in the task's units.
        """
        device = self.gaussian.variance.device
        state = torch.from_numpy(self.normalizer.states(states)).to(device)
        condition = torch.cat([state, torch.from_numpy(self.normalizer.tasks(tasks)).to(device)], dim=-1)
        noise = torch.randn(len(states), *self.noise_shape, generator=generator, device=generator.device).to(device)
        state, condition, noise = in_bucket(state, condition, noise)
        with products.chosen(len(noise) * self._flops):
            rows = self._solve(state, condition, noise, config, generator if config.churn > 0 else None)
        return to_numpy(rows[: len(states)])

    def _solve_ode(self, state: Tensor, condition: Tensor, noise: Tensor, config: SamplerConfig, generator: torch.Generator | None) -> Tensor:
        """Rows `[B, H, C]` from coefficients of unit noise `[B, R]`."""
        sigmas = {sigma: torch.full((1,), sigma, device=noise.device) for sigma in asked_levels(config)}
        networks = dict(zip(sigmas, at_levels(self.raw_network(), torch.cat([*sigmas.values()]).log() / 4, condition), strict=True))

        def denoise(z: Tensor, sigma: float) -> Tensor:
            return self.denoise_coefficients(z, sigmas[sigma], networks[sigma])

        z = sample(denoise, noise, config, generator)
        return pin(self.gaussian.mean(condition) + self.gaussian.lift(z), state)


def train_denoiser(
    windows: Windows,
    network: NetworkConfig,
    preconditioner: PreconditionerConfig,
    noise: NoiseConfig,
    train: TrainConfig,
    generator: torch.Generator,
    report: Callable[[Progress], None],
) -> Denoiser:
    """A denoiser for the windows' horizon, from nothing: first the Gaussian, then the network. `report` hears both in turn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        gaussian = fit_gaussian(windows, preconditioner, train, generator, report)
        denoiser = Denoiser(windows.normalizer, gaussian, windows.horizon, network, noise).to(windows.device)
    fit(denoiser, lambda g: windows.sample(train.batch_size, g), train, generator, report)
    return denoiser
