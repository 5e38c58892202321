"""From offline to online: an agent that goes on from what another has learned."""

from __future__ import annotations

from typing import Any

from atradiff.agents.actor_critic import ACTING, ActorCritic, AgentConfig
from atradiff.agents.pex import PEX
from atradiff.errors import UserError

NETWORK_SETTINGS = ("width", "depth", "num_critics", "layer_norm")


def take_over(agent: ActorCritic, learned: AgentConfig, state: dict[str, Any], where: str) -> None:
    """Let the agent go on from the `state` of one with the config `learned`; `where` that lies is named in what is refused.

    An agent goes on from its own kind and from any that has all its parts: td3 from td3bc, sac from calql, and pex expands iql.
    """
    if "observation_mean" not in state:
        raise UserError(f"{where} was learned with an earlier version of atradiff, which did not write down what its agent saw: run it anew")
    for name in NETWORK_SETTINGS:
        ours, theirs = getattr(agent.config, name), getattr(learned, name)
        if ours != theirs:
            raise UserError(f"{where} was learned with agent.{name} {theirs}, but this run has {ours}: give it --set agent.{name}={theirs}")
    if isinstance(agent, PEX) and learned.algorithm == "iql":
        agent.expand(state)
    elif agent.state_dict().keys() - {ACTING} <= state.keys():
        agent.load_state_dict(state)
    else:
        raise UserError(
            f"{agent.config.algorithm} cannot go on from {where}, which learned by {learned.algorithm}: td3 can from td3bc, sac from calql, "
            "pex from iql, and each from its own kind"
        )
