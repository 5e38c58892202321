"""train: gradient steps of a denoiser, from drawing the batch to averaging the weights."""

from __future__ import annotations

import torch

from atradiff.bench import peers
from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row
from atradiff.bench.sampler import HORIZON
from atradiff.bench.workload import NETWORKS, denoising_flops, make_denoiser, make_gaussian, make_windows, weight_bytes
from atradiff.data.windows import Windows
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.training import Fitting, TrainConfig

BATCH = {"cpu": 32, "cuda": 1_024}
STEPS = 100_000
"""Of the training that is measured, more than it comes to: the learning rate must not have fallen to nothing."""


def training(bench: Bench, network: str, horizon: int = HORIZON, batch: int = 0, config: NetworkConfig | None = None) -> list[Row]:
    """One of `NETWORKS` beside the temporal U-Net: the same windows, loss, optimiser and average of the weights.

    The floor: three times the products of one evaluation (forward, and backward for weights and inputs), or the weights, gradients,
    moments and averages that are read and written.
    """
    batch = batch or BATCH[bench.device]
    windows = make_windows(horizon, bench.device)
    gaussian = make_gaussian(windows)
    denoiser = make_denoiser(windows, gaussian, config or NETWORKS[network])
    contenders = [Contender(OURS, train_run(denoiser, windows, batch), bench.device)]
    if bench.peers:
        unet = peers.UNetDenoiser(windows, gaussian).to(bench.device)
        contenders.append(Contender("unet", train_run(unet, windows, batch), bench.device))
    floor = bench.machine.seconds(3 * denoising_flops(denoiser, batch), 10 * weight_bytes(denoiser))
    return bench.measure(Contest(f"train/{network}, batch {batch:,}", "gradient steps/s", 1, contenders, floor))


def train_run(denoiser: Denoiser, windows: Windows, batch: int) -> peers.Run:
    """Gradient steps on `batch` windows."""
    generator = torch.Generator(windows.device).manual_seed(0)
    fitting = Fitting(denoiser, lambda g: windows.sample(batch, g), TrainConfig(gradient_steps=STEPS, batch_size=batch), generator)

    def run(calls: int) -> None:
        for _ in range(calls):
            fitting.step()

    return run
