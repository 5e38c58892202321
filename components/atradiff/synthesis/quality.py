"""How good imagination is, measured where it can be: against the simulator, the environment's reward, and held-out data.

These are the first three experiments of the paper's summary: are imagined trajectories valid, are estimated lengths right, does the
pruner cut what it should. Nothing here feeds training.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.spatial import KDTree

from atradiff.data.environment import Oracle, TaskEnvironment
from atradiff.data.hindsight import goal_distance
from atradiff.data.simulator import PointMazeSimulator, find_maze, find_simulator
from atradiff.data.store import OfflineData
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import QUANTILES, LengthEstimator, States
from atradiff.synthesis.synthesizer import Imagined, Synthesizer
from atradiff.trajectory import Array, BoolArray

STARTS = 64
SUPPORT_QUANTILE = 0.99
SUPPORT_STATES = 20_000
Metrics = dict[str, float | None]


def measure(
    synthesizer: Synthesizer, kept: OfflineData, held_out: OfflineData, environment: TaskEnvironment, generator: np.random.Generator
) -> Metrics:
    """All measurements; None where this environment cannot tell (no simulator, no goal, no maze).

    Half of the trajectories begin in held-out states under their own tasks, half in the online task's reset states.
    """
    states, tasks = _starts(held_out, environment, generator)
    draws = torch.Generator().manual_seed(int(generator.integers(2**31)))
    began = time.perf_counter()
    imagined = synthesizer(states, tasks, draws)
    milliseconds = (time.perf_counter() - began) * 1e3 / len(states)
    return {
        **_step_errors(synthesizer, states, tasks, held_out, environment, draws),
        **_labels(imagined, environment, kept.spec.reward_minimum),
        **_support(imagined, synthesizer, kept, held_out, environment),
        **length_metrics(synthesizer.estimator, synthesizer.bank, held_out, QUANTILES.index(synthesizer.config.length_quantile)),
        **_pruning(imagined),
        "synthesis/milliseconds_per_trajectory": milliseconds,
    }


def _starts(held_out: OfflineData, environment: TaskEnvironment, generator: np.random.Generator) -> tuple[Array, Array]:
    rows = generator.choice(held_out.transition_rows(), STARTS)
    resets = [environment.reset(int(generator.integers(2**31))) for _ in range(STARTS)]
    states = np.concatenate([held_out.states[rows], np.stack([state for state, _ in resets])])
    tasks = np.concatenate([held_out.tasks[held_out.row_episodes()[rows]], np.stack([task for _, task in resets])])
    return states, tasks


def _step_errors(
    synthesizer: Synthesizer, states: Array, tasks: Array, held_out: OfflineData, environment: TaskEnvironment, draws: torch.Generator
) -> Metrics:
    """The distance between an imagined next state and the simulator's, position only, beside the length of a real step."""
    simulator = find_simulator(environment)
    metrics: Metrics = {f"one_step_error/{h}": None for h in synthesizer.bank.horizons}
    metrics["one_step_error/real_step"] = None
    if simulator is None:
        return metrics
    rows = held_out.transition_rows()
    real = np.linalg.norm((held_out.states[rows + 1] - held_out.states[rows])[:, :2], axis=1)
    metrics["one_step_error/real_step"] = float(real.mean())
    for horizon, denoiser in synthesizer.bank.original.items():
        lengths = np.full(len(states), float(horizon))
        errors = [one_step_errors(imagined, simulator) for imagined in synthesizer.sample(denoiser, states, tasks, lengths, draws)]
        metrics[f"one_step_error/{horizon}"] = float(np.concatenate(errors).mean())
    return metrics


def one_step_errors(imagined: Imagined, simulator: PointMazeSimulator) -> Array:
    """Position error `[T]` of each imagined transition against the simulator put into its state."""
    trajectory = imagined.trajectory
    simulated = simulator.step(trajectory.states[:-1], trajectory.actions)
    return np.linalg.norm((simulated - trajectory.states[1:])[:, :2], axis=1)


def _labels(imagined: list[Imagined], environment: TaskEnvironment, floor: float) -> Metrics:
    """Precision and recall of imagined rewards and terminations against the environment's own reward function."""
    names = [f"{label}/{metric}" for label in ("reward", "termination") for metric in ("precision", "recall")]
    if not Oracle.knows(environment):
        return dict.fromkeys([*names, "termination/goal_distance"])
    oracle = Oracle(environment)
    goal = environment.config.achieved_goal
    said: list[tuple[BoolArray, BoolArray]] = []
    true: list[tuple[BoolArray, BoolArray]] = []
    distances: list[float] = []
    for trajectory in (i.trajectory for i in imagined):
        rewards, terminated = oracle(trajectory.states[1:], trajectory.task)
        last = np.arange(len(trajectory)) == len(trajectory) - 1
        said.append((trajectory.rewards > floor, last & trajectory.terminated))
        true.append((rewards > floor, terminated))
        if trajectory.terminated:
            distances.append(float(goal_distance(trajectory.states[-1], trajectory.task, goal)))
    metrics: Metrics = {"termination/goal_distance": float(np.mean(distances)) if distances else None}
    for i, label in enumerate(("reward", "termination")):
        a, b = np.concatenate([s[i] for s in said]), np.concatenate([t[i] for t in true])
        metrics[f"{label}/precision"] = float((a & b).sum() / a.sum()) if a.any() else None
        metrics[f"{label}/recall"] = float((a & b).sum() / b.sum()) if b.any() else None
    return metrics


def _support(
    imagined: list[Imagined], synthesizer: Synthesizer, kept: OfflineData, held_out: OfflineData, environment: TaskEnvironment
) -> Metrics:
    """The share of imagined states inside walls, and farther from the data than 1 % of held-out states are."""
    states = np.concatenate([i.trajectory.states[1:] for i in imagined])
    normalizer = synthesizer.estimator.normalizer
    tree = KDTree(normalizer.states(kept.states[:: max(1, len(kept.states) // SUPPORT_STATES)]))
    real, _ = tree.query(normalizer.states(held_out.states[:SUPPORT_STATES]))
    distance, _ = tree.query(normalizer.states(states))
    maze = find_maze(environment)
    return {
        "support/outside_share": float((distance > np.quantile(real, SUPPORT_QUANTILE)).mean()),
        "support/in_wall_share": float(maze.inside_wall(states[:, :2]).mean()) if maze else None,
    }


def length_metrics(estimator: LengthEstimator, bank: DenoiserBank, held_out: OfflineData, column: int) -> Metrics:
    """On held-out states whose episode terminated: error of the median, calibration of the quantiles, and how often the horizon
    picked (by the quantile in `column`) is the shortest that covers the way."""
    states = States(held_out, estimator.normalizer)
    batch = states.at(torch.arange(len(states)))
    known = ~batch.censored
    if not known.any():
        return dict.fromkeys(["length/mae", "length/horizon_accuracy", *(f"length/below_q{round(100 * q)}" for q in QUANTILES)])
    with torch.no_grad():
        predicted = estimator(batch.state[known], batch.task[known]).numpy()
    steps = batch.steps[known].numpy()
    right = bank.shortest_cover(predicted[:, column]) == bank.shortest_cover(steps)
    metrics: Metrics = {"length/mae": float(np.abs(predicted[:, 1] - steps).mean()), "length/horizon_accuracy": float(right.mean())}
    return {**metrics, **{f"length/below_q{round(100 * q)}": float((steps <= predicted[:, i]).mean()) for i, q in enumerate(QUANTILES)}}


def _pruning(imagined: list[Imagined]) -> Metrics:
    """What the pruner removed, as shares of the generated rows, and what came out."""
    rows = sum(i.generated_rows for i in imagined)
    return {
        "prune/cut_share": sum(i.pruned.cut for i in imagined) / rows,
        "prune/loop_share": sum(i.pruned.loops for i in imagined) / rows,
        "prune/trimmed_share": sum(i.pruned.trimmed for i in imagined) / rows,
        "synthesis/mean_length": float(np.mean([len(i.trajectory) for i in imagined])),
        "synthesis/terminated_share": float(np.mean([i.trajectory.terminated for i in imagined])),
    }
