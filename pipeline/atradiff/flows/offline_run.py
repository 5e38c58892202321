"""An agent that learns from offline and imagined data alone, in plain Python; what it has learned is kept for online runs to go on from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from atradiff.agents.actor_critic import ActorCritic, AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.make import make_agent
from atradiff.agents.take_over import take_over
from atradiff.data.environment import TaskEnvironment
from atradiff.diffusion.checkpoint import load_checkpoint, save_checkpoint
from atradiff.errors import UserError
from atradiff.flows.assemble import EVALUATION_SEED, make_buffer, offline_buffer
from atradiff.flows.run_folder import AGENT_FILE, Metrics, RunFolder
from atradiff.numbers import NotFinite
from atradiff.online.offline import OfflineTrainer, imagine_beside, synthetic_transitions
from atradiff.online.seeds import make_generator
from atradiff.params.schema import Params
from atradiff.project.artifacts import load_split, load_synthesizer
from atradiff.project.layout import Layout
from atradiff.replay.mixed import MixedReplay, ReplayConfig
from atradiff.trajectory import Source

ARM = "offline"
Track = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""`with track(description, total) as advance`: shows how far something is; `advance(done, note)`."""


def learn_offline(
    params: Params, seed: int, path: Path, layout: Layout, device: str, track: Track, evaluated: Callable[[Metrics], None]
) -> RunFolder:
    """Learn as `params.offline` says, and write parameters, metrics and the agent into the new run folder `path`."""
    if params.agent.algorithm == "pex":
        raise UserError("pex begins with a policy learned offline: learn one with --agent iql, then `atradiff online run --init-from RUN --algorithm pex`")
    config = params.offline
    environment = TaskEnvironment(params.task.environment)
    split = load_split(layout, params)
    environment.require_fit(split[0].spec, f"the offline data {params.task.dataset.id!r}")
    offline = offline_buffer([trajectory for part in split for trajectory in part.trajectories()], params, environment, device)
    wanted = synthetic_transitions(config.synthetic_ratio, len(offline))
    longest = params.task.environment.max_episode_steps
    synthetic = make_buffer(wanted + longest + params.replay.n_step, params, environment, device, Source.IMAGINED)
    agent = make_agent(environment.spec, params.agent, make_generator(seed, "agent"), device)
    folder = RunFolder.create(path, params, ARM, seed, layout)
    if wanted:
        kept, _ = split
        synthesizer = load_synthesizer(layout, params, kept, device, environment)
        with track("imagining", wanted) as advance:
            imagine_beside(synthetic, wanted, synthesizer, environment, kept.states, params.online.warm_start_offline_share, seed, advance)
    online = make_buffer(params.replay.n_step + 1, params, environment, device, Source.ONLINE)  # stays empty
    shares = ReplayConfig(
        synthetic_ratio=config.synthetic_ratio, offline_ratio=1 - config.synthetic_ratio, synthetic_batch_ratio=config.synthetic_ratio
    )
    evaluator = Evaluator(params.task.environment, params.online.evaluation_episodes, EVALUATION_SEED)
    trainer = OfflineTrainer(evaluator, agent, MixedReplay(shares, online, synthetic, offline), config, seed)
    with track("learning", config.gradient_steps) as advance:
        for until in [*range(config.evaluate_every, config.gradient_steps, config.evaluate_every), config.gradient_steps]:
            try:
                trainer.learn(until, advance)
            except NotFinite as error:
                raise UserError(f"{error} within {until:,} gradient steps: lower agent.critic_learning_rate, and start anew") from error
            metrics = trainer.evaluate()
            folder.append_metrics(metrics)
            evaluated(metrics)
    save_checkpoint(folder.path / AGENT_FILE, "agent", {"agent": agent.state_dict()})
    evaluator.close()
    environment.close()
    return folder


def take_over_from(agent: ActorCritic, folder: RunFolder) -> None:
    """Let the agent go on from what the offline run has learned."""
    state: dict[str, Any] = load_checkpoint(folder.path / AGENT_FILE, "agent")["agent"]
    learned: AgentConfig = folder.params().agent
    take_over(agent, learned, state, str(folder.path))
