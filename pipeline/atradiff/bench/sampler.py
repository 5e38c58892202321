"""sampler: imagining whole windows, from the agents' states to rows in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atradiff.bench import peers
from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row
from atradiff.bench.workload import NETWORKS, denoising_flops, make_denoiser, make_gaussian, make_windows, walks, weight_bytes
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.sampler import SamplerConfig

HORIZON = 128
EVALUATIONS = 8
BATCHES = {"cpu": (1, 64), "cuda": (1, 64, 1_024)}


def sampling(bench: Bench, network: str, horizon: int = HORIZON, batches: Sequence[int] = (), config: NetworkConfig | None = None) -> list[Row]:
    """One of `NETWORKS` beside the temporal U-Net: the same solver, the same number of evaluations."""
    windows = make_windows(horizon, bench.device)
    gaussian = make_gaussian(windows)
    denoiser = make_denoiser(windows, gaussian, config or NETWORKS[network])
    models: dict[str, Denoiser] = {OURS: denoiser}
    if bench.peers:
        models["unet"] = peers.UNetDenoiser(windows, gaussian).to(bench.device).eval()
    result: list[Row] = []
    for batch in batches or BATCHES[bench.device]:
        contenders = [Contender(impl, sampler_run(model, batch), bench.device) for impl, model in models.items()]
        floor = EVALUATIONS * bench.machine.seconds(denoising_flops(denoiser, batch), weight_bytes(denoiser))
        job = f"sampler/{network}, batch {batch:,}"
        result += bench.measure(Contest(job, "transitions/s", batch * (horizon - 1), contenders, floor))
    return result


def sampler_run(denoiser: Denoiser, batch: int) -> peers.Run:
    """Samples of `batch` windows."""
    data = walks(batch, episode_steps=1)
    states, tasks = data.states[::2][:batch], data.tasks[:batch]
    generator = torch.Generator(denoiser.gaussian.variance.device).manual_seed(0)
    config = SamplerConfig(evaluations=EVALUATIONS)

    def run(calls: int) -> None:
        for _ in range(calls):
            denoiser.sample(states, tasks, config, generator)

    return run
