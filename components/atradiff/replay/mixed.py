"""D_o and D_s side by side: how much is imagined, and what goes into a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from atradiff.errors import UserError
from atradiff.replay.buffer import Buffer
from atradiff.trajectory import TransitionBatch, unpack_rows


@dataclass(frozen=True)
class ReplayConfig:
    """What is stored and what a batch is made of."""

    synthetic_ratio: Annotated[float, Ge(0), Lt(1), Doc("ATraDiff's rho: share of the stored transitions that are imagined; 0 is the plain agent.")] = 0.8
    offline_ratio: Annotated[float, Ge(0), Le(1), Doc("RLPD's share of real offline transitions in every batch; 0 is pure ATraDiff.")] = 0.0
    sampling: Annotated[Literal["split", "union"], Doc("split: a fixed share of every batch is imagined; union: uniform over D_o and D_s.")] = "split"
    synthetic_batch_ratio: Annotated[float, Ge(0), Le(1), Doc("Share of every batch that is imagined, where sampling is split.")] = 0.5
    n_step: Annotated[int, Ge(1), Doc("Rewards summed before bootstrapping, in every buffer.")] = 10
    online_capacity: Annotated[int, Gt(0), Doc("Real transitions kept.")] = 200_000
    synthetic_capacity: Annotated[int, Gt(0), Doc("Imagined transitions kept.")] = 200_000

    @property
    def half_of_the_real(self) -> float:
        """Half of what a batch has beside imagined transitions: the `offline_ratio` at which offline and online data share it evenly."""
        return (1 - self.synthetic_batch_ratio) / 2


class SynthesisTrigger:
    """Decides after every real step how many trajectories to imagine.

    The rate is the paper's: on average `p = rho / ((1 - rho) * L)` trajectories a step, L being the running mean of stored
    lengths, which keeps |D_s| / (|D_s| + |D_o|) at rho. What is owed is carried over (ours), so that chance and changing
    lengths do not make the share drift.
    """

    def __init__(self, synthetic_ratio: float, expected_length: float) -> None:
        self.owed_per_step = synthetic_ratio / (1 - synthetic_ratio)
        self._expected_length = expected_length
        self._owed = 0.0
        self._requested = 0
        self.trajectories = 0
        self.transitions = 0

    def expect(self, length: float) -> None:
        """Take trajectories to be of this length until one is stored."""
        self._expected_length = length

    @property
    def mean_length(self) -> float:
        """L: the mean length of the stored trajectories, or the expected one before there is any."""
        return self.transitions / self.trajectories if self.trajectories else self._expected_length

    @property
    def trigger_probability(self) -> float:
        """p of the paper; above 1 it means several trajectories a step."""
        return self.owed_per_step / self.mean_length

    def step(self, generator: torch.Generator) -> int:
        """After one real step: the number of trajectories to request now."""
        self._owed += self.owed_per_step
        owed_trajectories = self._owed / self.mean_length - self._requested
        count = max(0, math.floor(owed_trajectories + float(torch.rand((), generator=generator))))
        self._requested += count
        return count

    def stored(self, length: int) -> None:
        """One requested trajectory was stored with `length` transitions."""
        self._requested -= 1
        self._owed -= length
        self.trajectories += 1
        self.transitions += length

    def dropped(self, count: int) -> None:
        """So many requested trajectories will not be stored; what they were for stays owed."""
        self._requested -= count

    def state_dict(self) -> dict[str, Any]:
        counts = {"requested": self._requested, "trajectories": self.trajectories, "transitions": self.transitions}
        return {"expected": self._expected_length, "owed": self._owed, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._expected_length = float(state["expected"])
        self._owed, self._requested = float(state["owed"]), int(state["requested"])
        self.trajectories, self.transitions = int(state["trajectories"]), int(state["transitions"])


class MixedReplay:
    """Real online (D_o), imagined (D_s) and offline transitions, sampled as one batch.

    `warm_start_transitions` are those imagined before the first env step; they are sampled like the rest of D_s, but do not
    count in the share, which is about what the trigger adds.
    """

    def __init__(self, config: ReplayConfig, online: Buffer, synthetic: Buffer, offline: Buffer | None = None) -> None:
        if config.offline_ratio > 0 and offline is None:
            raise UserError("replay.offline_ratio is above 0, but there is no offline data: run `dvc repro convert` or set it to 0")
        if config.sampling == "split" and config.synthetic_ratio > 0 and config.offline_ratio + config.synthetic_batch_ratio > 1:
            raise UserError("replay.offline_ratio and replay.synthetic_batch_ratio add up to more than 1: lower one of them")
        self.config = config
        self.online = online
        self.synthetic = synthetic
        self.offline = offline
        self.warm_start_transitions = 0

    @property
    def synthetic_share(self) -> float:
        """|D_s| / (|D_s| + |D_o|) of what came in since the first env step, as far as it is still stored."""
        forgotten = self.synthetic.added - len(self.synthetic)
        stored = len(self.synthetic) - max(0, self.warm_start_transitions - forgotten)
        total = stored + len(self.online)
        return stored / total if total else 0.0

    def largest_reward(self) -> float:
        """The largest size of an n-step reward in any source; 0 where nothing is stored."""
        buffers = [self.online, self.synthetic, *([self.offline] if self.offline is not None else [])]
        return max(buffer.largest_reward() for buffer in buffers)

    def largest_value(self, discount: float) -> float | None:
        """What no value can exceed where a step is discounted so, by the rewards that are stored: a sum over n-step rewards, or None where
        nothing is discounted."""
        discount **= self.config.n_step
        return self.largest_reward() / (1 - discount) if discount < 1 else None

    def sample(self, batch_size: int, generator: torch.Generator, beforehand: bool = False) -> TransitionBatch:
        """One batch; a source that is still empty leaves its share to the online one (or, before it, to the others). `beforehand` takes the online
        one to be empty, as it is in the first warm start."""
        drawn = [(buffer, count) for buffer, count in self.counts(batch_size, generator, beforehand) if count > 0]
        rows = torch.cat([buffer.draw(count, generator) for buffer, count in drawn])
        return unpack_rows(rows, self.online.observation_dim, torch.cat([buffer.source.expand(count) for buffer, count in drawn]))

    def counts(self, batch_size: int, generator: torch.Generator, beforehand: bool = False) -> list[tuple[Buffer, int]]:
        """How many transitions each source gives to a batch; they add up to `batch_size`."""
        online = 0 if beforehand else len(self.online)
        if online + len(self.synthetic) == 0:
            if self.offline is None:
                raise ValueError("nothing to sample: every replay source is empty")
            return [(self.offline, batch_size)]
        offline = round(self.config.offline_ratio * batch_size) if self.offline is not None else 0
        rest = batch_size - offline
        synthetic = min(rest, self._synthetic_count(online, batch_size, rest, generator))
        sources = [(self.online, rest - synthetic), (self.synthetic, synthetic)]
        return [*sources, (self.offline, offline)] if self.offline is not None else sources

    def _synthetic_count(self, online: int, batch_size: int, rest: int, generator: torch.Generator) -> int:
        if len(self.synthetic) == 0:
            return 0
        if online == 0:
            return rest
        if self.config.sampling == "split":
            return round(self.config.synthetic_batch_ratio * batch_size)
        share = len(self.synthetic) / (len(self.synthetic) + online)
        return int((torch.rand(rest, generator=generator, device=generator.device) < share).sum())

    def state_dict(self) -> dict[str, Any]:
        """The online and the imagined transitions; offline ones are read from the store again."""
        return {
            "online": self.online.state_dict(),
            "synthetic": self.synthetic.state_dict(),
            "warm_start_transitions": self.warm_start_transitions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.online.load_state_dict(state["online"])
        self.synthetic.load_state_dict(state["synthetic"])
        self.warm_start_transitions = int(state["warm_start_transitions"])
