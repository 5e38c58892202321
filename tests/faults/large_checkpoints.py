"""`make test-large-checkpoints`: what checkpoints of replays of a million transitions cost, in seconds and in bytes.

Two replays in AntMaze's shapes are full, the agent has the mazes' size, and there are models of a run's size with their originals. Between two
checkpoints real and imagined transitions come in and the agent learns. Beside each checkpoint's seconds stand those of writing as many bytes into
one file, with one fsync: what the disk itself asks for.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from atradiff.agents.make import make_agent
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run_folder import RunFolder
from atradiff.params.presets import preset
from atradiff.replay.buffer import Buffer
from atradiff.trajectory import Source, Spec, Trajectory

STATE, TASK, ACTION = 27, 2, 8
REAL, IMAGINED, LENGTH = 1_000, 4_000, 100
"""What comes in between two checkpoints, and the length of what is imagined."""
MODEL_BYTES = 12_000_000
MOST_SECONDS, MOST_BYTES = 2.0, 1.2
"""What a checkpoint may cost after the first, the second as a ratio to what has changed."""


class Cost(NamedTuple):
    """Of one checkpoint, its write, and of writing its bytes into one file; of the bytes, those that changed and those that were written."""

    seconds: float
    processor_seconds: float
    disk_seconds: float
    changed: int
    written: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=1_000_000, help="In each of the two replays.")
    parser.add_argument("--checkpoints", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        costs = list(write_checkpoints(Path(made), given.transitions, given.checkpoints))
        began = time.monotonic()
        state = Checkpoints(_run(Path(made))).latest(print)
        assert state is not None
        assert len(state["replay"]["online"]["rows"]) == given.transitions
        print(f"read and checked again in {time.monotonic() - began:.1f} s")
    slowest, widest = max(cost.seconds for cost in costs[1:]), max(cost.written / cost.changed for cost in costs[1:])
    print(f"after the first: {slowest:.2f} s and {widest:.3f} times the changed bytes at most; {MOST_SECONDS} and {MOST_BYTES} wanted")


def write_checkpoints(folder: Path, transitions: int, count: int) -> Iterator[Cost]:
    """Fill the replays, and write checkpoints of which each has more than the one before. Tells what each cost."""
    params, numbers = preset("pointmaze-large"), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    spec = Spec(STATE, ACTION, TASK, (-1.0,) * ACTION, (1.0,) * ACTION)
    agent = make_agent(spec, params.agent, generator)
    replays = {
        source: Buffer(transitions, spec.observation_dim, ACTION, params.replay.n_step, params.agent.discount, "cpu", source)
        for source in (Source.ONLINE, Source.IMAGINED)
    }
    models = {"denoiser": {"weights": torch.randn(MODEL_BYTES // 4, generator=generator)}}
    originals = {"denoiser": {"weights": models["denoiser"]["weights"].clone()}}
    for replay in replays.values():
        _imagine(replay, transitions, numbers)
    checkpoints = Checkpoints(_run(folder))
    for number in range(count):
        new = transitions * len(replays)
        if number > 0:
            _imagine(replays[Source.IMAGINED], IMAGINED, numbers)
            _act(replays[Source.ONLINE], numbers)
            agent.update(replays[Source.IMAGINED].sample(params.agent.batch_size, generator), generator)
            new = REAL + IMAGINED
        learned = agent.state_dict()
        contents = {"online": replays[Source.ONLINE].state_dict(), "synthetic": replays[Source.IMAGINED].state_dict()}
        revisions = {"models": "0", "originals": "0"}
        state = {"env_steps": number, "agent": learned, "replay": contents, "models": models, "originals": originals, "revisions": revisions}
        began = time.monotonic(), time.process_time()
        written = checkpoints.write(number, state, None, keep=2)
        ended = time.monotonic(), time.process_time()
        changed = new * contents["online"]["rows"].shape[1] * 4 + _bytes(learned) + (2 * MODEL_BYTES if number == 0 else 0)
        own = sum(file.stat().st_size for file in written.iterdir() if file.stat().st_nlink == 1)
        cost = Cost(ended[0] - began[0], ended[1] - began[1], _disk_seconds(folder, own), changed, own)
        print(
            f"checkpoint {number}: {cost.seconds:.2f} s, {cost.processor_seconds:.2f} s of them the processor's (the disk alone {cost.disk_seconds:.2f} s), "
            f"{own / 1e6:.2f} MB written, {changed / 1e6:.2f} MB changed, {own / changed:.3f} times",
            flush=True,
        )
        yield cost


def _run(folder: Path) -> RunFolder:
    (folder / "run.json").write_text(json.dumps({"format": 1, "task": "antmaze-large", "arm": "atradiff", "seed": 0}))
    return RunFolder(folder)


def _imagine(replay: Buffer, transitions: int, numbers: np.random.Generator) -> None:
    for _ in range(transitions // LENGTH):
        states, actions = (numbers.standard_normal(shape, np.float32) for shape in ((LENGTH + 1, STATE), (LENGTH, ACTION)))
        rewards, task = np.zeros(LENGTH, np.float32), numbers.standard_normal(TASK, np.float32)
        replay.add_trajectory(Trajectory(states, actions, rewards, task, terminated=False, truncated=True))


def _act(replay: Buffer, numbers: np.random.Generator) -> None:
    """The last episode stays open."""
    for step in range(1, REAL + 1):
        observation, following = numbers.standard_normal((2, STATE + TASK), np.float32)
        replay.add_step(observation, numbers.standard_normal(ACTION, np.float32), 0.0, following, False, step % 300 == 0)


def _bytes(state: Any) -> int:
    """Of all tensors in it."""
    if isinstance(state, Tensor):
        return state.nbytes
    return sum(map(_bytes, state.values())) if isinstance(state, dict) else 0


def _disk_seconds(folder: Path, size: int) -> float:
    content, began = os.urandom(size), time.monotonic()
    with (folder / "beside").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    took = time.monotonic() - began
    (folder / "beside").unlink()
    return took


if __name__ == "__main__":
    main()
