"""`fit`: the one training loop, for denoisers, the length estimator, the reward model and online adaptation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar, cast

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from typing_extensions import Doc

from atradiff import products
from atradiff.graphs import Graphed

Batch = TypeVar("Batch", contravariant=True)
BatchT = TypeVar("BatchT")
LOOK_EVERY = 50
"""Gradient steps on a GPU after which the host waits for it, to see whether all was finite."""


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast a model is trained."""

    gradient_steps: Annotated[int, Ge(1), Doc("Gradient steps of training.")] = 1_500
    batch_size: Annotated[int, Ge(1), Doc("Windows (or states) in a batch.")] = 128
    learning_rate: Annotated[float, Gt(0), Doc("Peak learning rate of AdamW.")] = 1e-3
    weight_decay: Annotated[float, Ge(0), Doc("Weight decay of AdamW.")] = 1e-4
    warmup_share: Annotated[float, Ge(0), Lt(1), Doc("Share of the steps in which the rate rises; then it falls as a cosine.")] = 0.05
    ema_decay: Annotated[float, Ge(0), Lt(1), Doc("Decay of the moving average of the weights, which is what is kept.")] = 0.995
    gradient_clip: Annotated[float, Gt(0), Doc("Largest norm of the gradient.")] = 1.0
    seed: Annotated[int, Ge(0), Doc("Seed of initial weights, batches and noise.")] = 0


class Trainable(Protocol[Batch]):
    """Everything that can be fitted answers `(loss, logs)`."""

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Progress:
    """What `fit` tells its listener after each step; the loss stays a tensor, so that nobody waits for it unasked."""

    gradient_steps: int
    logs: dict[str, Tensor]


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), bit for bit that of torch.optim.

    Which, when it is made, imports torch's compiler: three seconds of every training stage, and of every run's first adaptation.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    def step(self, learning_rate: float) -> None:
        """One step down the gradients that the parameters hold."""
        gradients = [cast("Tensor", p.grad) for p in self.parameters]
        with torch.no_grad():
            torch._foreach_add_(self.steps, 1)  # pyright: ignore
            torch._fused_adamw_(  # pyright: ignore
                self.parameters, gradients, self.means, self.squares, [], self.steps,
                lr=learning_rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self.weight_decay, amsgrad=False, maximize=False,
            )  # fmt: skip


class Fitting:
    """A training under way: `step` as often as `gradient_steps` says, then `finish`, which leaves the moving average of its weights in `model`.

    `model` is a `Trainable`; `sample` draws a batch from the generator. On a GPU, with a generator there, a step's loss and gradients are one
    CUDA graph.
    """

    def __init__(self, model: nn.Module, sample: Callable[[torch.Generator], Any], config: TrainConfig, generator: torch.Generator) -> None:
        self._model, self._sample, self._config, self._generator = model, sample, config, generator
        self._learning = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = AdamW(self._learning, config.weight_decay)
        self._warmup = max(1, round(config.warmup_share * config.gradient_steps))
        self._average = copy.deepcopy(model)
        self._averaged = [p for p in self._average.parameters() if p.requires_grad]
        self._gradients = Graphed(self._descend)
        self._flops = config.batch_size * products.largest(self._learning)
        self._norms = torch.zeros((), device=self._learning[0].device)
        self._look_every = LOOK_EVERY if self._norms.is_cuda else 1
        self._steps = 0
        model.train()

    def step(self) -> Progress:
        """One gradient step. Raises `FloatingPointError` on a loss or gradient that is not finite; on a GPU up to `LOOK_EVERY` steps later."""
        batch = self._sample(self._generator)
        with products.chosen(self._flops):
            norm, logs = self._gradients(batch, self._generator)
        self._norms += norm  # what is not finite stays so
        if (self._steps + 1) % self._look_every == 0 and not torch.isfinite(self._norms):
            raise FloatingPointError(f"the loss or its gradient is not finite by gradient step {self._steps + 1}: lower the learning rate")
        config = self._config
        self._optimizer.step(config.learning_rate * _rate(self._steps, self._warmup, config.gradient_steps))
        decay = min(config.ema_decay, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._learning, 1 - decay)  # pyright: ignore
        self._steps += 1
        return Progress(self._steps, {name: value.clone() for name, value in logs.items()})

    def finish(self) -> None:
        """Leave the moving average in the model."""
        self._model.load_state_dict(self._average.state_dict())
        self._model.eval()

    def _descend(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Leave the clipped gradients in the parameters; returns their norm before that, and what to log."""
        loss, logs = cast("Trainable[Any]", self._model).loss(batch, generator)
        for parameter in self._learning:
            parameter.grad = None
        loss.backward()
        return torch.nn.utils.clip_grad_norm_(self._learning, self._config.gradient_clip), logs


def fit(
    model: nn.Module,
    sample: Callable[[torch.Generator], Any],
    config: TrainConfig,
    generator: torch.Generator,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train `model` in place and leave the moving average of its weights in it, see `Fitting`; `report` hears of every step."""
    fitting = Fitting(model, sample, config, generator)
    for _ in range(config.gradient_steps):
        report(fitting.step())
    fitting.finish()


def _rate(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress))))
