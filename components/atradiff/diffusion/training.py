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

Batch = TypeVar("Batch", contravariant=True)
BatchT = TypeVar("BatchT")


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


def fit(
    model: nn.Module,
    sample: Callable[[torch.Generator], Any],
    config: TrainConfig,
    generator: torch.Generator,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train `model` in place and leave the moving average of its weights in it.

    `model` is a `Trainable`; `sample` draws a batch from the generator. Raises `FloatingPointError` on a loss that is not finite.
    """
    trainable = cast("Trainable[Any]", model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(learning, config.weight_decay)
    warmup = max(1, round(config.warmup_share * config.gradient_steps))
    average = copy.deepcopy(model)
    averaged = [p for p in average.parameters() if p.requires_grad]
    model.train()
    for step in range(config.gradient_steps):
        loss, logs = trainable.loss(sample(generator), generator)
        for parameter in learning:
            parameter.grad = None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learning, config.gradient_clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the loss or its gradient is not finite at gradient step {step + 1}: lower the learning rate")
        optimizer.step(config.learning_rate * _rate(step, warmup, config.gradient_steps))
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(averaged, learning, 1 - decay)  # pyright: ignore
        report(Progress(step + 1, logs))
    model.load_state_dict(average.state_dict())
    model.eval()


def _rate(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * progress))))
