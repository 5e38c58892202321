"""Online adaptation: the models learn from important real trajectories, warm-started, and are rolled back if they forget."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from typing_extensions import Doc

from atradiff.data.hindsight import Hindsight
from atradiff.data.store import OfflineData, stack_trajectories
from atradiff.data.windows import WindowBatch, Windows
from atradiff.diffusion.denoiser import Denoiser
from atradiff.diffusion.training import TrainConfig, fit
from atradiff.online.distance import imagination_distance
from atradiff.online.importance import ImportanceName
from atradiff.synthesis.actuators import Actuators, measure_strength
from atradiff.synthesis.inverse_dynamics import InverseDynamics, fit_inverse_dynamics, step_scale
from atradiff.synthesis.length_estimator import StateBatch, States
from atradiff.synthesis.synthesizer import Synthesizer
from atradiff.trajectory import Array, Trajectory

HELD_OUT_BATCH = 128
ESTIMATOR_SLACK = 0.01
"""Pinball loss, in mean episode lengths, that the estimator may always lose: where offline episodes are nearly deterministic its loss
is so small that any share of it would forbid all learning."""
CHANGED = 0.2
"""An actuator is as it was unless its strength differs by more than this share."""


@dataclass(frozen=True)
class AdaptationConfig:
    """When, on what, and how far the models follow the online data."""

    adapt_every: Annotated[int, Ge(0), Doc("Env steps between adaptations; 0 switches them off.")] = 2_000
    importance: Annotated[ImportanceName, Doc("Which real trajectories are picked: by td_error, reward, curiosity, or uniform (the control).")] = "td_error"
    capacity: Annotated[int, Ge(1), Doc("Real trajectories kept for adaptation.")] = 32
    random_drop: Annotated[float, Ge(0), Le(1), Doc("Chance that any one is dropped on overflow, and not the least important.")] = 0.1
    gradient_steps: Annotated[int, Ge(1), Doc("Gradient steps of each model in one adaptation.")] = 6
    batch_size: Annotated[int, Ge(2), Doc("Windows in a batch, picked and offline together.")] = 64
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of an adaptation.")] = 3e-4
    picked_share: Annotated[float, Ge(0), Le(1), Doc("Share of a batch that comes from the picked trajectories.")] = 0.5
    tolerance: Annotated[float, Ge(0), Doc("An adaptation is rolled back if it raises the held-out offline loss by more than this share.")] = 0.1
    actuators: Annotated[
        bool, Doc("Measure what each actuator does now; where that has changed, translate imagined actions, forget D_s and warm start anew.")
    ] = False


class Adapted(NamedTuple):
    """What became of one model: its held-out offline loss as the original had it, and after this adaptation."""

    model: str
    loss_original: float
    loss_after: float
    rolled_back: bool


BatchT = TypeVar("BatchT", WindowBatch, StateBatch)


class Adapter:
    """Adapts a synthesizer's current denoisers and its length estimator. The originals are never touched.

    offline and held_out are the two parts of the offline data that training kept apart, the former with the pieces that `hindsight` cut
    out of it; it cuts them out of the picked trajectories too.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        offline: OfflineData,
        held_out: OfflineData,
        hindsight: Hindsight,
        config: AdaptationConfig,
        seed: int,
    ) -> None:
        self.synthesizer = synthesizer
        self.config = config
        self._hindsight = hindsight
        self._offline = offline
        self._normalizer = synthesizer.estimator.normalizer
        self._device = next(iter(synthesizer.bank.current.values())).gaussian.variance.device
        self._windows = {h: Windows(offline, h, self._normalizer, self._device) for h in synthesizer.bank.horizons}
        self._states = States(offline, self._normalizer)
        self.original_estimator = copy.deepcopy(synthesizer.estimator)
        self._held_out = held_out
        self._held_out_seed = seed

    @cached_property
    def _step_scale(self) -> Array:
        return step_scale(self._offline)

    @cached_property
    def _inverse(self) -> InverseDynamics:
        return fit_inverse_dynamics(self._offline)

    def measure_actuators(self, real: list[Trajectory]) -> bool:
        """Measure the actuators on all steps of `real`; where one is not as imagination takes it to be, it takes it so from now on.

        Returns whether that is so: then everything imagined before has other actions than it would have now. What the inverse dynamics do not
        explain of an action, its strength may seem to differ by.
        """
        found = measure_strength(real, self._inverse, self._normalizer.spec)
        known = self.synthesizer.actuators
        strength = np.ones_like(found) if known is None else known.strength
        differs = np.abs(found - strength) > np.maximum(CHANGED, self._inverse.unexplained) * np.abs(strength)
        if not differs.any():
            return False
        self.synthesizer.actuators = Actuators(self._normalizer.spec, np.where(differs, found, strength))
        self.synthesizer.adapted = True
        return True

    def distance(self, real: list[Trajectory], generator: torch.Generator) -> float:
        """How far imagined steps are from those of `real`, see `imagination_distance`."""
        return imagination_distance(self.synthesizer, self._step_scale, real, generator)

    def adapt(self, picked: list[Trajectory], generator: torch.Generator) -> list[Adapted]:
        """One adaptation of every model on `picked` mixed with offline data, each rolled back by itself if it forgets.

        The models keep to the offline data's actions: where actuators have changed, those of `picked` are translated back.
        """
        if (actuators := self.synthesizer.actuators) is not None:
            picked = [replace(t, actions=actuators.to_offline(t.actions)) for t in picked]
        self.synthesizer.ends |= any(t.terminated for t in picked)
        data = self._hindsight(stack_trajectories(picked, self._normalizer.spec), _numpy_generator(generator))
        results: list[Adapted] = []
        for horizon, denoiser in self.synthesizer.bank.current.items():
            fresh, offline = Windows(data, horizon, self._normalizer, self._device), self._windows[horizon]
            held_out = self._held_out_windows(horizon)
            results.append(
                self._adapt_model(
                    f"denoiser {horizon}",
                    denoiser,
                    lambda g, fresh=fresh, offline=offline: WindowBatch(*self._mix(fresh.sample, offline.sample, g)),
                    lambda model, held_out=held_out: self._denoising_loss(model, held_out),
                    self.synthesizer.bank.original[horizon],
                    0.0,
                    generator,
                )
            )
        fresh_states = States(data, self._normalizer)
        held_out_states = States(self._held_out, self._normalizer)
        everything = held_out_states.at(torch.arange(len(held_out_states)))
        results.append(
            self._adapt_model(
                "length estimator",
                self.synthesizer.estimator,
                lambda g: StateBatch(*self._mix(fresh_states.sample, self._states.sample, g)),
                lambda model: float(model.loss(everything, generator)[0]),
                self.original_estimator,
                ESTIMATOR_SLACK,
                generator,
            )
        )
        self.synthesizer.adapted = True
        return results

    def _adapt_model(
        self,
        name: str,
        model: nn.Module,
        sample: Callable[[torch.Generator], Any],
        held_out_loss: Callable[[Any], float],
        original: nn.Module,
        slack: float,
        generator: torch.Generator,
    ) -> Adapted:
        before = copy.deepcopy(model.state_dict())
        train = TrainConfig(
            gradient_steps=self.config.gradient_steps,
            batch_size=self.config.batch_size,
            learning_rate=self.config.learning_rate,
            weight_decay=0.0,
        )
        with torch.no_grad():
            loss_original = held_out_loss(original)
        try:
            fit(model, sample, train, generator)
        except FloatingPointError:  # the worst that an adaptation can do, and no reason to end the run
            loss_after = float("inf")
        else:
            with torch.no_grad():
                loss_after = held_out_loss(model)
        rolled_back = not loss_after <= loss_original * (1 + self.config.tolerance) + slack
        if rolled_back:
            model.load_state_dict(before)
            model.eval()
        return Adapted(name, loss_original, loss_after, rolled_back)

    def _mix(
        self, fresh: Callable[[int, torch.Generator], BatchT], offline: Callable[[int, torch.Generator], BatchT], generator: torch.Generator
    ) -> list[Tensor]:
        count = round(self.config.picked_share * self.config.batch_size)
        parts = [source(n, generator) for source, n in ((fresh, count), (offline, self.config.batch_size - count)) if n > 0]
        return [torch.cat(fields) for fields in zip(*parts, strict=True)]

    def _held_out_windows(self, horizon: int) -> WindowBatch:
        generator = torch.Generator().manual_seed(self._held_out_seed)
        return Windows(self._held_out, horizon, self._normalizer, self._device).sample(HELD_OUT_BATCH, generator)

    def _denoising_loss(self, denoiser: Denoiser, batch: WindowBatch) -> float:
        """The loss on held-out windows at fixed noise, so that two models can be compared."""
        generator = torch.Generator().manual_seed(self._held_out_seed)
        return float(denoiser.loss(batch, generator)[0])


def _numpy_generator(generator: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
