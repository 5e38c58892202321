"""A film of one imagined trajectory, and beside it what its actions really do."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from atradiff.data.environment import RENDERER_FAILURES, TaskEnvironment, no_renderer
from atradiff.data.simulator import find_poser
from atradiff.errors import UserError
from atradiff.online.seeds import episode_seed, make_generator
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer
from atradiff.project.layout import Layout
from atradiff.synthesis.synthesizer import Imagined
from atradiff.trajectory import Trajectory

Frame = Any
"""One picture `[height, width, 3]`, uint8."""


def film_imagined(params: Params, layout: Layout, device: str, seed: int, out: Path) -> Imagined:
    """Imagine from a reset of the task, and film the imagined states beside the states that the same actions lead to from that reset.

    Raises `UserError` where the extra [video] or a renderer is missing, and where the environment cannot be put into a state.
    """
    writers = _writers()
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    environment = TaskEnvironment(params.task.environment, render_mode="rgb_array")
    try:
        start = episode_seed(seed, 0)
        state, task = environment.reset(start)
        synthesizer = load_synthesizer(layout, params, load_split(layout, params)[0], device, environment)
        imagined = synthesizer(state[None], task[None], make_generator(seed, "synthesis"))[0]
        left = posed(environment, imagined.trajectory)
        environment.reset(start)
        right = acted(environment, imagined.trajectory)
        out.parent.mkdir(parents=True, exist_ok=True)
        with writers.get_writer(out, fps=environment.env.metadata.get("render_fps", 30)) as writer:
            for pair in zip(left, right, strict=True):
                writer.append_data(np.concatenate(pair, axis=1))
    finally:
        environment.close()
    return imagined


def _writers() -> Any:
    try:
        importlib.import_module("imageio_ffmpeg")
        return importlib.import_module("imageio.v2")
    except ImportError as error:
        raise UserError("--video needs the extra [video]: install it with `pip install -c constraints.txt -e '.[video]'`") from error


def posed(environment: TaskEnvironment, trajectory: Trajectory) -> list[Frame]:
    """A frame of each imagined state."""
    pose = find_poser(environment)
    if pose is None:
        raise UserError(f"--video needs an environment that can be put into a state, which {environment.config.id} cannot: use --out for a picture")
    frames: list[Frame] = []
    for state in trajectory.states:
        pose(state)
        frames.append(_render(environment))
    return frames


def acted(environment: TaskEnvironment, trajectory: Trajectory) -> list[Frame]:
    """A frame of each state that the actions really lead to; the last one stays where the episode ends before them."""
    frames, over = [_render(environment)], False
    for action in trajectory.actions:
        if over:
            frames.append(frames[-1])
            continue
        *_, terminated, truncated, _ = environment.step(action)
        frames.append(_render(environment))
        over = terminated or truncated
    return frames


def _render(environment: TaskEnvironment) -> Frame:
    try:
        return environment.env.render()
    except RENDERER_FAILURES as error:
        raise no_renderer(error) from error
