"""Each job, as small as it can be, without peers; how long it takes is nobody's business here."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace

import pytest

from atradiff.bench import agent, data, online, peers, sampler, scale, train
from atradiff.bench.jobs import JOBS
from atradiff.bench.machine import Machine
from atradiff.bench.measure import FLOOR, OURS, Bench, Row
from atradiff.cli.bench import Job
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.errors import UserError

BENCH = Bench(Machine("cpu", threads=1, flops_per_second=1e11, bytes_per_second=1e10), repeats=1, peers=False, repeat_seconds=0.0)
SMALL = NetworkConfig("dit", width=16, depth=1, heads=2, patch=4)


def check(rows: list[Row], *impls: str) -> None:
    assert tuple(row["impl"] for row in rows) == impls
    for row in rows:
        assert all(math.isfinite(row[key]) and row[key] > 0 for key in ("median", "min", "max"))
        assert (row["ratio"] is None) == (row["impl"] == OURS)


def test_agent() -> None:
    tiny = replace(agent.PLAIN, width=8, batch_size=4)
    check(agent.sac_update(BENCH, tiny, updates=2, stored=100), OURS, FLOOR)
    check(agent.rlpd_block(BENCH, replace(agent.ENSEMBLE, width=8, batch_size=4, utd_ratio=2), stored=100), OURS, FLOOR)


def test_online() -> None:
    tiny = replace(agent.PLAIN, width=8, batch_size=4)
    check(online.online_step(BENCH, tiny), OURS, FLOOR)
    check(online.online_step(BENCH, tiny, num_envs=3), OURS, FLOOR)


def test_sampler() -> None:
    check(sampler.sampling(BENCH, "dit", horizon=8, batches=(1, 3), config=SMALL), OURS, FLOOR, OURS, FLOOR)


def test_train() -> None:
    check(train.training(BENCH, "dit", horizon=8, batch=4, config=SMALL), OURS, FLOOR)


def test_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "untouched")
    check(data.windows_served(BENCH, 900, horizon=8), OURS, FLOOR)
    check(data.windows_mapped(BENCH, 900, horizon=8), OURS, FLOOR)
    check(data.converted(BENCH, 900), OURS, FLOOR)
    assert os.environ["MINARI_DATASETS_PATH"] == "untouched"


@pytest.mark.skipif(not data.PROCESS_STATUS.exists(), reason="only Linux tells a process's peak")
def test_memory() -> None:
    peak, serving = data.memory(BENCH, 900, horizon=8)
    check([peak, serving], OURS, OURS)
    assert peak["median"] >= serving["median"]


def test_scale() -> None:
    check(scale.load_growing(BENCH, sizes=(600, 900), horizon=8), OURS, OURS)
    check(scale.convert_growing(BENCH, sizes=(600,)), OURS, FLOOR)
    check(scale.horizons_growing(BENCH, horizons=(4, 8)), *[OURS] * 4)


def test_every_job_can_be_asked_for() -> None:
    assert list(JOBS) == [job.value for job in Job]
    assert set(peers.NEEDED) <= set(JOBS)


@pytest.mark.parametrize("job", sorted(peers.NEEDED))
def test_a_missing_peer_is_named_with_what_to_do(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in peers.NEEDED[job]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"cannot be imported.*pip install -c constraints\.txt -e '\.\[bench\]'"):
        peers.require_peers([job])


def test_jobs_without_peers_need_none() -> None:
    peers.require_peers(["data", "scale"])
