"""The tasks that come with the project, and parameters for a Minari dataset of one's own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from atradiff.data.collect import CollectConfig
from atradiff.data.environment import EnvironmentConfig
from atradiff.data.hindsight import HindsightConfig
from atradiff.data.metaworld import ENVIRONMENT_ID
from atradiff.errors import UserError
from atradiff.params.load import parse_params
from atradiff.params.render import to_dict
from atradiff.params.schema import DatasetParams, DenoiserParams, Params, TaskParams
from atradiff.synthesis.waypoints import WaypointConfig

OWN_HORIZONS = (16, 32, 64)
METAWORLD_PREFIX = "metaworld-"
METAWORLD_STEPS = 300


@dataclass(frozen=True)
class MazeTask:
    """A PointMaze with a fixed start and a fixed goal, cells as [row, column]."""

    environment: str
    dataset: str
    start: tuple[int, int]
    goal: tuple[int, int]
    max_episode_steps: int
    horizons: tuple[int, ...]
    far: bool = False
    """No horizon covers the way: windows aim at waypoints, and the models learn from pieces with goals that near."""

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        return f"{self.environment}, from cell {list(self.start)} to {list(self.goal)} within {self.max_episode_steps} steps"


@dataclass(frozen=True)
class MetaWorldTask:
    """A task of Meta-World, learned with the offline data of `tasks`, itself one of them."""

    task: str
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its stages call it: tasks with the same data share it, and so they share the models."""
        return "metaworld" if len(self.tasks) > 1 else f"{METAWORLD_PREFIX}{self.task}"

    @property
    def summary(self) -> str:
        """One line for a list of tasks."""
        return f"Meta-World's {self.task}, success as the only reward, within {METAWORLD_STEPS} steps"


MAZES = {
    "pointmaze-umaze": MazeTask("PointMaze_UMaze-v3", "local/pointmaze/umaze-v0", (1, 1), (3, 1), 300, (32, 64, 128)),
    "pointmaze-medium": MazeTask("PointMaze_Medium-v3", "local/pointmaze/medium-v0", (1, 1), (6, 6), 500, (32, 64), far=True),
    "pointmaze-large": MazeTask("PointMaze_Large-v3", "local/pointmaze/large-v0", (1, 1), (7, 10), 800, (32, 64), far=True),
}
METAWORLD_TASKS = ("door-open", "drawer-open", "button-press-topdown", "window-close", "pick-place", "shelf-place")
"""Their offline data are one dataset, and so are their models."""
METAWORLD = {f"{METAWORLD_PREFIX}{task}": MetaWorldTask(task, METAWORLD_TASKS) for task in METAWORLD_TASKS}
TASKS: dict[str, MazeTask | MetaWorldTask] = {**MAZES, **METAWORLD}


def list_tasks() -> dict[str, str]:
    """The tasks by name, with a line about each."""
    return {name: task.summary for name, task in TASKS.items()}


def preset(name: str) -> Params:
    """The parameters of a task, or those for a Minari dataset when `name` is the id of one."""
    if name in MAZES:
        return _maze_preset(name, MAZES[name])
    if name in METAWORLD:
        return _metaworld_preset(METAWORLD[name])
    if "/" in name or re.search(r"-v\d+$", name):
        return _dataset_preset(name)
    if name.startswith(METAWORLD_PREFIX):  # any other of Meta-World's 50 has data of its own
        task = name.removeprefix(METAWORLD_PREFIX)
        return _metaworld_preset(MetaWorldTask(task, (task,)))
    raise UserError(f"there is no task {name!r}: choose one of {', '.join(TASKS)}, or give the id of a Minari dataset, such as local/my-data-v0")


def _maze_preset(name: str, task: MazeTask) -> Params:
    params = Params()
    environment = replace(
        params.task.environment,
        id=task.environment,
        kwargs={"continuing_task": False},
        reset_options={"reset_cell": list(task.start), "goal_cell": list(task.goal)},
        max_episode_steps=task.max_episode_steps,
        achieved_goal=(0, 1),
    )
    params = replace(
        params,
        task=TaskParams(name=name, dataset=DatasetParams(id=task.dataset), environment=environment),
        denoiser=replace(DenoiserParams(), horizons=list(task.horizons)),
        synthesis=replace(params.synthesis, reward="goal"),
    )
    if not task.far:
        return params
    return replace(
        params,
        task=replace(params.task, hindsight=HindsightConfig(cover=4)),
        synthesis=replace(params.synthesis, waypoints=WaypointConfig(reach=48)),
        online=replace(params.online, warm_start_trajectories=512, warm_start_offline_share=0.8),
    )


def _metaworld_preset(task: MetaWorldTask) -> Params:
    params = Params()
    return replace(
        params,
        task=TaskParams(
            name=task.name,
            dataset=DatasetParams(id=f"local/metaworld/{'mixed' if len(task.tasks) > 1 else task.task}-v0"),
            collect=CollectConfig(action_noise=0.3),
            environment=EnvironmentConfig(
                id=ENVIRONMENT_ID,
                kwargs={"tasks": list(task.tasks)},
                reset_options={"task": task.task},
                max_episode_steps=METAWORLD_STEPS,
            ),
        ),
        denoiser=replace(params.denoiser, horizons=[32], preconditioner=replace(params.denoiser.preconditioner, windows=50_000)),
        online=replace(params.online, warm_start_trajectories=256, warm_start_offline_share=0.0),
    )


def _dataset_preset(dataset_id: str) -> Params:
    """What the dataset itself tells: its environment, and horizons that its episodes can fill."""
    from atradiff.data.convert import open_dataset

    dataset = open_dataset(dataset_id)
    if dataset.env_spec is None:
        raise UserError(f"the Minari dataset {dataset_id!r} names no environment: record it with env or env_spec, so that online learning has one")
    lengths = [int(episode["total_steps"]) for episode in dataset.storage.get_episode_metadata(dataset.episode_indices)]
    if not lengths:
        raise UserError(f"the Minari dataset {dataset_id!r} has no episodes: collect or download it again")
    rows = max(lengths) + 1
    params = Params()
    return parse_params(
        to_dict(
            replace(
                params,
                task=TaskParams(
                    name=re.sub(r"[^A-Za-z0-9]+", "-", dataset_id).strip("-").lower(),
                    dataset=DatasetParams(id=dataset_id),
                    environment=replace(
                        params.task.environment,
                        id=dataset.env_spec.id,
                        kwargs=_plain_kwargs(dataset.env_spec.kwargs, dataset_id),
                        max_episode_steps=dataset.env_spec.max_episode_steps or max(lengths),
                    ),
                ),
                denoiser=replace(params.denoiser, horizons=[h for h in OWN_HORIZONS if h <= rows] or [rows]),
                synthesis=replace(params.synthesis, prune=replace(params.synthesis.prune, loops=False)),
                agent=replace(params.agent, imitation_filter=True),
            )
        ),
        f"the dataset {dataset_id!r}",
    )


def _plain_kwargs(kwargs: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(kwargs))
    except TypeError as error:
        raise UserError(
            f"the environment of {dataset_id!r} has keyword arguments that params.yaml cannot hold ({error}): "
            "register an environment id that needs none and record the dataset with it"
        ) from error
