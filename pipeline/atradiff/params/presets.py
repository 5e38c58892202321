"""The tasks that come with the project, and parameters for a Minari dataset of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gymnasium.envs.registration import EnvSpec

from atradiff.data.collect import CollectConfig, read_recipe
from atradiff.data.convert import open_dataset, state_keys
from atradiff.data.environment import EnvironmentConfig, is_registered, whole_kwargs
from atradiff.data.hindsight import HindsightConfig
from atradiff.data.metaworld import ENVIRONMENT_ID
from atradiff.errors import UserError, did_you_mean
from atradiff.params.load import with_settings
from atradiff.params.schema import ControlParams, DatasetParams, DenoiserParams, Params, TaskParams
from atradiff.params.tasks import METAWORLD_STEPS, TASKS, GymnasiumTask, MazeTask, MetaWorldTask, Task, find_task
from atradiff.synthesis.waypoints import WaypointConfig

UNFIT = r"[^A-Za-z0-9]+"
"""What a name of a folder is rid of."""
NOISY = "noisy"
OWN_HORIZONS = (16, 32, 64)
REMOTE = "remote"
LEARNED_STEPS = {"medium": 50_000, "medium-replay": 50_000, "expert": 500_000}
"""Env steps for which an agent learns before it collects data of a quality."""


def preset(name: str, data: str | None = None, mixed_with: Sequence[str] = ()) -> Params:
    """The parameters of a task, or those for a Minari dataset when `name` is the id of one.

    `data` chooses the task's offline data: a quality to collect, `remote` for the one on Minari's server, or any Minari id.
    Datasets of `mixed_with`, which must be on this machine, are mixed in.
    """
    task = find_task(name)
    if task is not None:
        params = _with_data(_task_preset(name, task), name, task, data)
    elif "/" in name or re.search(r"-v\d+$", name):
        if data is not None:
            raise UserError(f"--data chooses among a task's datasets, and {name!r} is a dataset itself: leave it out, or name the task")
        params = _dataset_preset(name)
    else:
        raise UserError(
            f"there is no task {name!r}{did_you_mean(name, TASKS)}: choose one of {', '.join(TASKS)}, "
            "or give the id of a Minari dataset, such as local/my-data-v0"
        )
    return _mixed(params, mixed_with) if mixed_with else params


def _task_preset(name: str, task: Task) -> Params:
    match task:
        case MazeTask():
            return _maze_preset(name, task)
        case MetaWorldTask():
            return _metaworld_preset(task)
        case GymnasiumTask():
            return _gymnasium_preset(name, task)


def _with_data(params: Params, name: str, task: Task, data: str | None) -> Params:
    """The parameters with the chosen dataset, and with the recipe for it where it can be collected here."""
    quality = next((quality for quality in task.qualities if quality == (data or task.qualities[0])), None)
    if quality is not None:
        settings: dict[str, Any] = {"task.dataset.id": f"local/{task.folder}{'' if quality == NOISY else f'/{quality}'}-v0", "task.collect.quality": quality}
        if quality in LEARNED_STEPS and NOISY not in task.qualities:  # there is no script
            settings["task.collect.training_steps"] = LEARNED_STEPS[quality]
            if quality == "medium-replay":
                settings["task.collect.transitions"] = LEARNED_STEPS[quality]
    else:
        if data == REMOTE and task.remote:
            data = task.remote[0]
        if data is None or "/" not in data:
            remote = [REMOTE, *task.remote] if task.remote else []
            raise UserError(f"the task {name!r} has no data {data!r}: choose one of {', '.join([*task.qualities, *remote])}, or a Minari id")
        settings = {"task.dataset.id": data}
        if isinstance(task, MazeTask):  # no episode of Minari's terminates, so no radius of success can be read off them
            settings |= {"synthesis.reward": "generated", "task.hindsight.cover": 0, "synthesis.waypoints.reach": 0, "control.offline_goals": "own"}
    if data is not None and quality != task.qualities[0]:
        settings["task.name"] = f"{params.task.name}-{re.sub(UNFIT, '-', data.removeprefix('local/')).lower()}"
    return with_settings(params, settings, f"the task {name!r}")


def _gymnasium_preset(name: str, task: GymnasiumTask) -> Params:
    environment = EnvironmentConfig(id=task.environment, max_episode_steps=task.max_episode_steps)
    params = _own_settings(replace(Params(), task=TaskParams(name=name, environment=environment)), task.max_episode_steps + 1)
    return with_settings(params, task.settings, f"the task {name!r}")


def _mixed(params: Params, mixed_with: Sequence[str]) -> Params:
    """Further datasets in the same store; told apart where their environments differ, the first one's being acted in."""
    ids = [params.task.dataset.id, *mixed_with]
    specs = [open_dataset(dataset_id).env_spec for dataset_id in mixed_with]
    acted_in = params.task.environment
    ours = whole_kwargs(acted_in.id, acted_in.kwargs)
    same = all(
        spec is not None and _environment_id(spec) == acted_in.id and whole_kwargs(spec.id, _plain_kwargs(spec.kwargs, name)) == ours
        for spec, name in zip(specs, mixed_with, strict=True)
    )
    settings = {
        "task.name": f"{params.task.name}-mixed",
        "task.dataset.mixed_with": list(mixed_with),
        "task.environment.task_id": [] if same else [1] + [0] * (len(ids) - 1),
    }
    return with_settings(params, settings, "--mix")


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
        task=TaskParams(name=name, environment=environment),
        denoiser=replace(DenoiserParams(), horizons=list(task.horizons)),
        synthesis=replace(params.synthesis, reward="goal"),
        control=ControlParams(offline_goals="task", imitation_filter=True) if task.relabelled else params.control,
    )
    if task.reach == 0:
        return params
    return replace(
        params,
        task=replace(params.task, hindsight=HindsightConfig(cover=4)),
        synthesis=replace(params.synthesis, waypoints=WaypointConfig(reach=task.reach)),
        online=replace(params.online, warm_start_trajectories=512, warm_start_offline_share=0.8),
    )


def _metaworld_preset(task: MetaWorldTask) -> Params:
    """Few evaluations: they keep to the conditional mean, and objects where they lie; that is smooth in 27 dimensions, and learned for long, but not
    by heart. Three quarters of a batch are from beforehand, of which a third is imagined. The control did best with as much."""
    params = Params()
    return replace(
        params,
        task=TaskParams(
            name=task.name,
            collect=CollectConfig(action_noise=0.3),
            environment=EnvironmentConfig(
                id=ENVIRONMENT_ID,
                kwargs={"tasks": list(task.tasks)},
                reset_options={"task": task.task},
                max_episode_steps=METAWORLD_STEPS,
            ),
        ),
        denoiser=replace(
            params.denoiser,
            horizons=[8],
            preconditioner=replace(
                params.denoiser.preconditioner, gradient_steps=12_000, feature_scale=0.1, dropout=0.1, action_ridge=0.1, windows=200_000
            ),
            train=replace(params.denoiser.train, batch_size=512),
        ),
        synthesis=replace(params.synthesis, maximum_length=7, sampler=replace(params.synthesis.sampler, evaluations=2)),
        replay=replace(params.replay, offline_ratio=0.5, synthetic_batch_ratio=0.25),
        agent=replace(params.agent, standardize=True, imitation_weight=10.0),
        online=replace(params.online, warm_start_trajectories=4_096, warm_start_offline_share=1.0, warm_start_goals="own"),
        control=replace(params.control, offline_ratio=0.75),
    )


def _dataset_preset(dataset_id: str) -> Params:
    """What the dataset itself tells: its environment, and horizons that its episodes can fill."""
    dataset = open_dataset(dataset_id)
    if dataset.env_spec is None:
        raise UserError(f"the Minari dataset {dataset_id!r} names no environment: record it with env or env_spec, so that online learning has one")
    lengths = [int(episode["total_steps"]) for episode in dataset.storage.get_episode_metadata(dataset.episode_indices)]
    if not lengths:
        raise UserError(f"the Minari dataset {dataset_id!r} has no episodes: collect or download it again")
    params = Params()
    environment = replace(
        params.task.environment,
        id=_environment_id(dataset.env_spec),
        kwargs=_plain_kwargs(dataset.env_spec.kwargs, dataset_id),
        max_episode_steps=dataset.env_spec.max_episode_steps or max(lengths),
        state_keys=state_keys(dataset),
    )
    task = TaskParams(name=re.sub(UNFIT, "-", dataset_id).strip("-").lower(), dataset=DatasetParams(id=dataset_id), environment=environment)
    settings = _recipe_settings(read_recipe(dataset) or {})
    return with_settings(_own_settings(replace(params, task=task), max(lengths) + 1), settings, f"the dataset {dataset_id!r}")


def _environment_id(spec: EnvSpec) -> str:
    """The id by which `gym.make` finds the environment: where nobody here has registered it, behind the module that its code is in."""
    if is_registered(spec.id) or not isinstance(spec.entry_point, str):
        return spec.id
    return f"{spec.entry_point.partition(':')[0]}:{spec.id}"


def _recipe_settings(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as the settings that it was made of, so that a dataset collected here can be made again."""
    environment = {f"task.environment.{name}": value for name, value in recipe.get("environment", {}).items()}
    return environment | {f"task.collect.{name}": value for name, value in recipe.items() if name != "environment"}


def _own_settings(params: Params, rows: int) -> Params:
    """What is set for data of which nothing is known but how many rows an episode has at most."""
    return replace(
        params,
        denoiser=replace(params.denoiser, horizons=[h for h in OWN_HORIZONS if h <= rows] or [rows]),
        synthesis=replace(params.synthesis, prune=replace(params.synthesis.prune, loops=False)),
        agent=replace(params.agent, imitation_filter=True),
    )


def _plain_kwargs(kwargs: dict[str, Any], dataset_id: str) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(kwargs))
    except TypeError as error:
        raise UserError(
            f"the environment of {dataset_id!r} has keyword arguments that params.yaml cannot hold ({error}): "
            "register an environment id that needs none and record the dataset with it"
        ) from error
