"""The tasks that come with the project: where they are acted in, and which datasets belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # libraries come with what tells how to collect, and neither a list of tasks nor a shell should wait for them
    from atradiff.data.collect import Quality

METAWORLD_PREFIX = "metaworld-"
METAWORLD_STEPS = 300
SCRIPTED: tuple[Quality, ...] = ("noisy", "random", "medium", "medium-replay", "expert")
SELF_TAUGHT: tuple[Quality, ...] = ("medium", "random", "medium-replay", "expert")


@dataclass(frozen=True)
class MazeTask:
    """A PointMaze with a fixed start and a fixed goal, cells as [row, column]."""

    environment: str
    folder: str
    remote: tuple[str, ...]
    start: tuple[int, int]
    goal: tuple[int, int]
    max_episode_steps: int
    horizons: tuple[int, ...]
    reach: int = 0
    """Where no horizon covers the way: windows aim at waypoints that near, and the models learn from pieces with such goals."""
    relabelled: bool = False
    """The control does better with its data under the task at hand, and a filter of what it imitates, than with the data's own goals."""
    qualities: tuple[Quality, ...] = SCRIPTED

    @property
    def about(self) -> str:
        """What is to be done."""
        return f"a point: {self.start} to {self.goal}"


@dataclass(frozen=True)
class MetaWorldTask:
    """A task of Meta-World, learned with the offline data of `tasks`, itself one of them. Minari's own server has no data of it."""

    task: str
    tasks: tuple[str, ...]
    qualities: tuple[Quality, ...] = SCRIPTED
    remote: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its stages call it: tasks with the same data share it, and so they share the models."""
        return "metaworld" if len(self.tasks) > 1 else f"{METAWORLD_PREFIX}{self.task}"

    @property
    def folder(self) -> str:
        """Of its datasets: local/FOLDER/QUALITY-v0."""
        return f"metaworld/{'mixed' if len(self.tasks) > 1 else self.task}"

    @property
    def about(self) -> str:
        """What is to be done."""
        return f"an arm: {self.task.replace('-', ' ')}"

    @property
    def environment(self) -> str:
        """Gymnasium's id."""
        from atradiff.data.metaworld import ENVIRONMENT_ID

        return ENVIRONMENT_ID

    @property
    def max_episode_steps(self) -> int:
        """The same for all."""
        return METAWORLD_STEPS


@dataclass(frozen=True)
class GymnasiumTask:
    """Any other environment, with settings as for data of one's own; `settings` are those that differ, by their dotted names.

    `qualities` are those that can be collected here, the first one by default; `remote` are Minari's datasets of it, likewise.
    """

    environment: str
    folder: str
    max_episode_steps: int
    qualities: tuple[Quality, ...]
    remote: tuple[str, ...]
    settings: dict[str, Any]
    about: str


Task = MazeTask | MetaWorldTask | GymnasiumTask

UMAZE, MEDIUM, LARGE = ((1, 1), (3, 1)), ((1, 1), (6, 6)), ((1, 1), (7, 10))
ON_THE_WAY = 48
"""Env steps from one waypoint to the next, at most."""
MAZES = {
    "pointmaze-umaze": MazeTask("PointMaze_UMaze-v3", "pointmaze/umaze", ("D4RL/pointmaze/umaze-v2",), *UMAZE, 300, (32, 64, 128)),
    "pointmaze-medium": MazeTask("PointMaze_Medium-v3", "pointmaze/medium", ("D4RL/pointmaze/medium-v2",), *MEDIUM, 500, (32, 64), ON_THE_WAY, relabelled=True),
    "pointmaze-large": MazeTask("PointMaze_Large-v3", "pointmaze/large", ("D4RL/pointmaze/large-v2",), *LARGE, 800, (32, 64), ON_THE_WAY),
}
METAWORLD_TASKS = ("door-open", "drawer-open", "button-press-topdown", "window-close", "pick-place", "shelf-place")
"""Their offline data are one dataset, and so are their models."""
METAWORLD = {f"{METAWORLD_PREFIX}{task}": MetaWorldTask(task, METAWORLD_TASKS) for task in METAWORLD_TASKS}
METAWORLD_ALONE = ("reach", "push", "drawer-close", "window-open", "peg-insert-side", "faucet-open", "hammer")
"""Each has a dataset of its own, as any other of the 50 by its name."""


def _ant_maze(size: str, ends: tuple[tuple[int, int], tuple[int, int]], max_episode_steps: int) -> GymnasiumTask:
    name, (start, goal) = size.lower(), ends
    kinds = ("umaze", "umaze-diverse") if name == "umaze" else (f"{name}-play", f"{name}-diverse")
    settings = {
        "task.environment.kwargs": {"continuing_task": False},
        "task.environment.reset_options": {"reset_cell": list(start), "goal_cell": list(goal)},
        "task.environment.state_keys": ["observation", "achieved_goal"],
        "task.environment.achieved_goal": [27, 28],
        "task.collect.action_noise": 0.1,
    }
    about = f"an ant: {start} to {goal}"
    remote = tuple(f"D4RL/antmaze/{kind}-v1" for kind in kinds)
    return GymnasiumTask(f"AntMaze_{size}-v4", f"antmaze/{name}", max_episode_steps, SCRIPTED, remote, settings, about)


def _kitchen(data: str, tasks: tuple[str, ...]) -> GymnasiumTask:
    settings = {"task.environment.kwargs": {"tasks_to_complete": list(tasks)}, "task.collect.transitions": 50_000}
    about = "an arm: four kitchen jobs"
    return GymnasiumTask("FrankaKitchen-v1", f"kitchen/{data}", 280, ("random",), (f"D4RL/kitchen/{data}-v2",), settings, about)


def _adroit(task: str, about: str) -> GymnasiumTask:
    remote = tuple(f"D4RL/{task}/{kind}-v2" for kind in ("human", "cloned", "expert"))
    return GymnasiumTask(f"AdroitHand{task.title()}-v1", f"adroit/{task}", 200, ("random",), remote, {}, f"a hand: {about}")


def _locomotion(environment: str, about: str) -> GymnasiumTask:
    name = environment.lower()
    remote = tuple(f"mujoco/{name}/{kind}-v0" for kind in ("medium", "simple", "expert"))
    return GymnasiumTask(f"{environment}-v5", name, 1_000, SELF_TAUGHT, remote, {}, about)


FOUR = ("microwave", "kettle", "light switch", "slide cabinet")
OTHERS = {
    "antmaze-umaze": _ant_maze("UMaze", UMAZE, 700),
    "antmaze-medium": _ant_maze("Medium", MEDIUM, 1_000),
    "antmaze-large": _ant_maze("Large", LARGE, 1_000),
    "kitchen-complete": _kitchen("complete", FOUR),
    "kitchen-partial": _kitchen("partial", FOUR),
    "kitchen-mixed": _kitchen("mixed", ("microwave", "kettle", "light switch", "bottom burner")),
    "adroit-door": _adroit("door", "open a door"),
    "adroit-hammer": _adroit("hammer", "drive a nail"),
    "adroit-pen": _adroit("pen", "turn a pen"),
    "adroit-relocate": _adroit("relocate", "carry a ball"),
    "hopper": _locomotion("Hopper", "a leg: hop forward"),
    "halfcheetah": _locomotion("HalfCheetah", "two legs: run forward"),
    "walker2d": _locomotion("Walker2d", "two legs: walk forward"),
}
TASKS: dict[str, Task] = {
    **MAZES,
    **METAWORLD,
    **{f"{METAWORLD_PREFIX}{task}": MetaWorldTask(task, (task,)) for task in METAWORLD_ALONE},
    **OTHERS,
}


def find_task(name: str) -> Task | None:
    """The task of a name, with any of Meta-World's 50; None where it names none. Raises `UserError` where only the extra could tell."""
    if name in TASKS or not name.startswith(METAWORLD_PREFIX) or "/" in name:
        return TASKS.get(name)
    from atradiff.data.metaworld import environments

    task = name.removeprefix(METAWORLD_PREFIX)
    return MetaWorldTask(task, (task,)) if task in environments() else None
