"""A scripted controller that trots an ant through a maze, on the same way as a point.

A clock moves the feet to and fro along the direction of travel and lifts them on the way back, diagonal legs together. The ant goes sideways as well as ahead,
so it never turns: its heading is held. The gait's numbers were found by the cross-entropy method, on an ant without a maze.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from atradiff.data.collect import CollectConfig
from atradiff.data.environment import TaskEnvironment
from atradiff.data.maze_controller import MazeController
from atradiff.trajectory import Array

LEGS = np.radians([45.0, 135.0, 225.0, 315.0])
"""Where the legs 1 to 4 point in the body's frame."""
TROT = np.asarray([0.0, math.pi, 0.0, math.pi])
"""Their phases."""
DOWN = np.asarray([1.0, -1.0, -1.0, 1.0])
"""The sign of an ankle's angle with the foot down."""

FREQUENCY = 1.8
"""Strides a second."""
STROKE = 0.9
"""Amplitude of a hip that swings along the direction of travel, in radians."""
BEND, LIFT, LIFT_PHASE = 0.74, 0.47, -1.05
"""Mean of an ankle's angle, in radians; amplitude and phase of its lift."""
REACH, REACH_PHASE = 0.36, 0.36
"""Amplitude and phase with which the ankle of a leg that points along the direction of travel reaches out and pulls."""
HEADING, YAW_RATE = 0.19, 0.09
"""Strokes that hold the heading, for a radian off it and a radian a second."""
STIFFNESS, DAMPING = 1.5, 0.22
"""Share of the largest torque for a radian off a joint's target, and for a radian a second."""


class AntController(MazeController):
    """Walks an ant from any cell to the goal: the shortest way over cells, a trot between their centres."""

    algorithm = "breadth-first search with a trot"

    def __init__(self, environment: TaskEnvironment, config: CollectConfig) -> None:
        super().__init__(environment, config)
        self._seconds = cast("Any", environment.env.unwrapped).ant_env.dt
        self._acted = 0

    def begin(self, generator: np.random.Generator) -> dict[str, Any]:
        """The options of the next episode's reset, a start and a goal; the gait begins anew."""
        self._acted = 0
        return super().begin(generator)

    def act(self, observation: Any, generator: np.random.Generator) -> Array:
        """The torques `[8]`, shares of the largest, towards the next cell's centre."""
        body, (x, y) = observation["observation"], observation["achieved_goal"].tolist()
        to_x, to_y = self.ahead(x, y, tuple(observation["desired_goal"].tolist()))
        w, i, j, k = body[1:5].tolist()
        yaw = math.atan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k))
        targets = self._targets(math.atan2(to_y - y, to_x - x) - yaw, yaw, float(body[18]))
        fallen = i * i + j * j > 0.25  # by more than 60 degrees
        torques = np.sign(body[19:27]) if fallen else STIFFNESS * (targets - body[5:13]) - DAMPING * body[19:27]
        noisy = np.roll(torques, 2) + self._config.action_noise * generator.standard_normal(8)  # joints begin with leg 1, actuators with leg 4
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)

    def _targets(self, direction: float, yaw: float, yaw_rate: float) -> NDArray[np.float64]:
        """The joints' angles `[8]` to aim at: hip and ankle of each leg, in radians; the direction of travel is in the body's frame."""
        phase = 2 * math.pi * FREQUENCY * self._seconds * self._acted + TROT
        self._acted += 1
        off = math.remainder(yaw, math.pi / 2)  # in any of four headings the legs stand alike
        hips = (STROKE * np.sin(direction - LEGS) - HEADING * off - YAW_RATE * yaw_rate) * np.cos(phase)
        ankles = BEND + LIFT * np.sin(phase + LIFT_PHASE) - REACH * np.cos(direction - LEGS) * np.cos(phase + REACH_PHASE)
        return np.stack([hips, DOWN * ankles], axis=1).ravel()
