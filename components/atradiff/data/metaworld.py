"""Tasks of Meta-World (Yu et al. 2019) as one goal environment, with success as the only reward.

The package `metaworld` is an extra, and imported only where an environment is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from atradiff.data.shift import UNSHIFTED, ShiftConfig, shift_model
from atradiff.errors import UserError, did_you_mean
from atradiff.trajectory import Array

ENVIRONMENT_ID = "atradiff/MetaWorld-v0"
VERSION = "-v3"
FRAME = 18
"""Entries of Meta-World's observation that tell of one moment: hand (3), opening of the gripper (1), two objects (7 each)."""
ONE_OBJECT = 11
"""Of these, the first ones, in use where there is no second object."""
MOVING = (0, 1, 2, 3, 4, 5, 6, 11, 12, 13)
"""Of these, positions and opening: what has a change that is worth telling."""
TWO_OBJECTS = frozenset({"hammer", "stick-pull", "stick-push"})
GOAL = 3


class MetaWorld(gym.Env[Any, Array]):
    """The tasks of the given names, such as `door-open`; a reset's option `task` says which, and without it one is drawn.

    `observation`: hand, gripper and objects now, and how their positions have changed since the last step. Meta-World stacks two moments,
    which says that, but hides it behind numbers far larger; and turning objects jump from a quaternion to its opposite.
    `desired_goal`: the task's goal, then which of the N tasks it is. Positions are in metres. Actions `[4]` move the hand, 1 is a centimetre, and
    close the gripper. Where Meta-World speaks of success there is a reward of 1, the only one, and the episode ends.

    Raises `UserError` for an unknown task, and where the extra is not installed.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._known = environments()
        for task in tasks:
            if task not in self._known:
                raise UserError(f"Meta-World has no task {task!r}{did_you_mean(task, self._known)}: see task.environment.kwargs.tasks")
        self.tasks = tuple(tasks)
        self._simulations: dict[str, Any] = {}
        self._shift = UNSHIFTED
        self._entries = ONE_OBJECT if TWO_OBJECTS.isdisjoint(tasks) else FRAME
        self._moving = [entry for entry in MOVING if entry < self._entries]
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, (self._entries + len(self._moving),), np.float32),
                "desired_goal": spaces.Box(-np.inf, np.inf, (GOAL + len(tasks),), np.float32),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode; the same seed gives the same one, whatever was done before."""
        from gymnasium.envs.mujoco import MujocoEnv  # with MuJoCo, for which nobody else should wait
        from mujoco import mj_forward  # pyright: ignore

        super().reset(seed=seed)
        drawn = self.np_random.integers(2**31, size=2)
        self.task = (options or {}).get("task", self.tasks[drawn[0] % len(self.tasks)])
        if self.task not in self.tasks:
            raise UserError(f"this environment has no task {self.task!r}, only {', '.join(self.tasks)}: see task.environment.reset_options.task")
        if self.task not in self._simulations:
            self._simulations[self.task] = self._make(self.task)
        self._simulation = self._simulations[self.task]
        self._simulation.curr_path_length = 0
        for drawn_already in (False, True):  # some goals follow what was drawn only when the arm is put in place once more
            self._simulation._freeze_rand_vec = drawn_already
            MujocoEnv.reset(self._simulation, seed=int(drawn[1]))
        mj_forward(self._simulation.model, self._simulation.data)  # and some objects only now
        frames = self._simulation._get_obs()
        frames[FRAME : 2 * FRAME] = frames[:FRAME]
        self._task_vector = np.concatenate([frames[2 * FRAME :], np.equal(self.tasks, self.task)]).astype(np.float32)
        return self._observe(frames), {"success": False}

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Act; success is the end."""
        frames, _, _, truncated, info = self._simulation.step(action)
        success = bool(info["success"])
        return self._observe(frames), float(success), success, bool(truncated), {"success": success}

    def shift_by(self, shift: ShiftConfig) -> None:
        """Change every task, before its first reset."""
        self._shift = shift

    def close(self) -> None:
        for simulation in self._simulations.values():
            simulation.close()

    def _make(self, task: str) -> Any:
        """A simulation that shows the goal, and draws from its own generator."""
        simulation = self._known[task]()
        simulation._partially_observable = False
        simulation._set_task_called = True
        simulation.seeded_rand_vec = True
        del simulation.sawyer_observation_space  # made when the goal was hidden, and steps are clipped to it
        shift_model(simulation.model, self._shift)
        simulation._random_reset_space = _stretched(simulation._random_reset_space, self._shift.goal_region)
        return simulation

    def _observe(self, frames: Array) -> dict[str, Array]:
        """Of `frames [39]`, which scripted policies read: this moment, the one before, the goal."""
        self.frames = frames
        now, change = frames[: self._entries], (frames[:FRAME] - frames[FRAME : 2 * FRAME])[self._moving]
        return {"observation": np.concatenate([now, change]).astype(np.float32), "desired_goal": self._task_vector}


def _stretched(region: spaces.Box, factor: float) -> spaces.Box:
    """A box of positions x, y, z, one or several, of that many times the width and depth around the same middle."""
    more = (factor - 1) * (region.high - region.low) / 2
    more[np.arange(len(more)) % 3 == 2] = 0.0
    return spaces.Box(region.low - more, region.high + more, dtype=np.float64)


def scripted_policy(task: str) -> Callable[[Array], Array]:
    """Meta-World's own policy for a task: `frames [39]` to an action `[4]` within its range."""
    from metaworld.policies import ENV_POLICY_MAP  # pyright: ignore

    policy: Any = ENV_POLICY_MAP[task + VERSION]()

    def act(frames: Array) -> Array:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant", UserWarning)  # policies warn of what is clipped here
            return np.clip(policy.get_action(frames.copy()), -1.0, 1.0)  # some write into what they read

    return act


def register() -> None:
    """Make the environment known to gymnasium, once."""
    if ENVIRONMENT_ID not in gym.registry:
        gym.register(ENVIRONMENT_ID, f"{__name__}:MetaWorld")


def environments() -> dict[str, Any]:
    """Meta-World's classes by the tasks' names. Raises `UserError` where the extra is not installed."""
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # pyright: ignore
    except ModuleNotFoundError as error:
        raise UserError("Meta-World is not installed: add it with `.venv/bin/pip install -c constraints.txt -e '.[metaworld]'`") from error
    return {name.removesuffix(VERSION): environment for name, environment in ALL_V3_ENVIRONMENTS.items()}
