"""The jobs by name, and running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from atradiff.bench import agent, data, online, sampler, scale, train
from atradiff.bench.measure import Bench, Row

JOBS: dict[str, tuple[Callable[[Bench], list[Row]], ...]] = {
    "agent": (agent.sac_update, agent.rlpd_block),
    "sampler": tuple(partial(sampler.sampling, network=network) for network in sampler.NETWORKS),
    "train": tuple(partial(train.training, network=network) for network in train.NETWORKS),
    "online": tuple(partial(online.online_step, num_envs=count) for count in online.SIDE_BY_SIDE),
    "data": (data.windows_served, data.windows_mapped, data.converted, data.memory),
    "scale": (scale.load_growing, scale.convert_growing, scale.horizons_growing),
}


def run_jobs(bench: Bench, names: Sequence[str], advance: Callable[[], None]) -> list[Row]:
    """All parts of the named jobs, one after the other; `advance` hears of each part's end."""
    rows: list[Row] = []
    for part in (part for name in names for part in JOBS[name]):
        rows += part(bench)
        advance()
    return rows
