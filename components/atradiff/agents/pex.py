"""Policy expansion (Zhang et al. 2023): the policy learned offline is kept as it is, and a new one learns beside it online."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from atradiff.agents.actor_critic import ACTING
from atradiff.agents.iql import IQL
from atradiff.trajectory import Array


class PEX(IQL):
    """IQL, whose losses stay as they are, with two policies that each propose an action: the critics say which is taken."""

    def _make_actor(self, low: Tensor, high: Tensor) -> None:
        super()._make_actor(low, high)
        self.offline_actor = copy.deepcopy(self.actor).requires_grad_(False)

    def expand(self, state: dict[str, Any]) -> None:
        """Keep what acts in an `IQL`'s state as the offline policy, and go on with its critics and V; the new policy begins untrained."""
        self.offline_actor.load_state_dict(state["actor"])
        if ACTING in state:
            nn.utils.vector_to_parameters(state[ACTING].to(self.device), self.offline_actor.parameters())
        parts = self._all_parts()
        for name in ("critic", "target_critic", "critic_optimizer", "value", "value_optimizer"):
            parts[name].load_state_dict(state[name])
        self._load_beside_parts(state)

    @torch.no_grad()
    def act(self, observations: Array, generator: torch.Generator | None) -> Array:
        """Actions `[N, A]` for observations `[N, D]`: one of the policies' proposals, drawn by `selection_chances` with the generator,
        or the better of the most likely ones without one."""
        observation = self.seen(torch.from_numpy(observations).to(self.device))
        if generator is None:
            proposals = torch.stack([self.offline_actor.mode(observation), self.acting.mode(observation)])
            chosen = self.selection_chances(observation, proposals)[1] > 0.5
        else:
            noises = [self._noise(len(observation), generator) for _ in range(2)]
            actors = (self.offline_actor, self.acting)
            proposals = torch.stack([actor.act(observation, noise) for actor, noise in zip(actors, noises, strict=True)])
            drawn = torch.rand(len(observation), generator=generator, device=generator.device).to(self.device)
            chosen = drawn < self.selection_chances(observation, proposals)[1]
        return torch.where(chosen[:, None], proposals[1], proposals[0]).cpu().numpy()

    def selection_chances(self, observation: Tensor, proposals: Tensor) -> Tensor:
        """Of each of the `proposals [2, N, A]`, `[2, N]`: proportional to exp(Q / temperature), Q the least critic's value (section 4)."""
        values = torch.stack([self.critic(observation, proposal).amin(0) for proposal in proposals])
        return torch.softmax(values / self.config.selection_temperature, dim=0)

    def _parts(self) -> dict[str, Any]:
        return {**super()._parts(), "offline_actor": self.offline_actor}
