"""The online loop on a toy: what it does when, what it stores, and that a run can be repeated and resumed bit for bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import toys
from atradiff.agents.actor_critic import AgentConfig
from atradiff.agents.evaluate import Evaluator
from atradiff.agents.sac import SAC
from atradiff.data.environment import EnvironmentConfig, TaskEnvironment
from atradiff.data.hindsight import Hindsight, HindsightConfig
from atradiff.data.normalizer import Normalizer
from atradiff.data.store import OfflineData
from atradiff.diffusion.denoiser import Denoiser
from atradiff.online.adaptation import AdaptationConfig, Adapter
from atradiff.online.importance import PickedSet, td_error_importance
from atradiff.online.plan import OnlineConfig, Phase, plan
from atradiff.online.seeds import episode_seed, make_generator
from atradiff.online.starts import OfflineStarts
from atradiff.online.trainer import Imagination, Trainer
from atradiff.replay.buffer import Buffer
from atradiff.replay.mixed import MixedReplay, ReplayConfig
from atradiff.synthesis.bank import DenoiserBank
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig, LengthEstimator
from atradiff.synthesis.prune import PruneConfig
from atradiff.synthesis.reward_model import RewardModel
from atradiff.synthesis.synthesizer import SynthesisConfig, Synthesizer, learned_rewards
from atradiff.trajectory import Source, Trajectory

AGENT = AgentConfig(width=16, depth=1, batch_size=16, utd_ratio=2)
ONLINE = OnlineConfig(
    env_steps=60,
    evaluate_every=30,
    evaluation_episodes=3,
    warm_start_gradient_steps=3,
    warm_start_trajectories=5,
    update_after_env_steps=10,
)
REPLAY = ReplayConfig(synthetic_ratio=0.5, n_step=3, online_capacity=2_000, synthetic_capacity=2_000)
SYNTHESIS = SynthesisConfig(batch_size=4, prune=PruneConfig(epsilon_quantile=0.5))
ADAPTATION = AdaptationConfig(adapt_every=20, capacity=3, gradient_steps=2, batch_size=8)
Make = Callable[..., Trainer]


@pytest.fixture
def make(
    trained_denoisers: list[Denoiser],
    trained_estimator: LengthEstimator,
    offline: OfflineData,
    held_out: OfflineData,
    normalizer: Normalizer,
) -> Make:
    """A trainer of ATraDiff, or of the plain agent where `imagines` is False."""

    def build(
        imagines: bool = True,
        seed: int = 0,
        online: OnlineConfig = ONLINE,
        replay: ReplayConfig = REPLAY,
        environment: EnvironmentConfig = toys.REACH,
        offline_buffer: bool = False,
        learned: bool = False,
        adaptation: AdaptationConfig = ADAPTATION,
    ) -> Trainer:
        capacities = {Source.ONLINE: replay.online_capacity, Source.IMAGINED: replay.synthetic_capacity}
        buffers = [Buffer(capacity, 4, 2, replay.n_step, AGENT.discount, source=source) for source, capacity in capacities.items()]
        if offline_buffer:
            buffers.append(Buffer(2_000, 4, 2, replay.n_step, AGENT.discount, source=Source.OFFLINE))
            for trajectory in offline.trajectories():
                buffers[-1].add_trajectory(trajectory)
        agent = SAC(toys.SPEC, AGENT, make_generator(seed, "agent"))
        imagination = None
        if imagines:
            arm = None
            if learned:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    arm = learned_rewards(RewardModel(normalizer, EstimatorNetworkConfig(8, 1)).eval())
            bank = DenoiserBank([copy.deepcopy(denoiser) for denoiser in trained_denoisers])
            synthesizer = Synthesizer(bank, copy.deepcopy(trained_estimator), SYNTHESIS, 0.1, arm)
            adapter = Adapter(synthesizer, offline, held_out, Hindsight(offline, (), HindsightConfig()), adaptation, seed)
            picked = PickedSet(adaptation.capacity, adaptation.random_drop)
            importance = td_error_importance(agent, replay.n_step, AGENT.discount)
            starts = OfflineStarts(offline, online.warm_start_offline_share, online.warm_start_goals, np.zeros(0, np.float32))
            imagination = Imagination(synthesizer, adapter, picked, importance, starts)
        evaluator = Evaluator(environment, online.evaluation_episodes, seed=100)
        environments = [TaskEnvironment(environment) for _ in range(online.num_envs)]
        return Trainer(environments, evaluator, agent, MixedReplay(replay, *buffers), imagination, online, seed)

    return build


def run(trainer: Trainer, start: int = 0, until: int | None = None, adapt_every: int = ADAPTATION.adapt_every) -> list[dict[str, Any]]:
    """The lines of metrics of a run, times aside."""
    config = trainer.config if until is None else replace(trainer.config, env_steps=until)
    after = Phase("checkpoint", start) if start else None
    lines = (trainer.run_phase(phase) for phase in plan(config, adapt_every, after) if phase.kind != "checkpoint")
    return [untimed(line) for line in lines if line is not None]


def ran(trainer: Trainer) -> Trainer:
    run(trainer)
    return trainer


def untimed(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.startswith("time/")}


def networks(trainer: Trainer) -> list[torch.nn.Module]:
    return [trainer.agent.actor, trainer.agent.critic, trainer.agent.target_critic]


def models(trainer: Trainer) -> list[torch.nn.Module]:
    return [] if trainer.imagination is None else [*trainer.imagination.synthesizer.bank.current.values(), trainer.imagination.synthesizer.estimator]


def weights(parts: list[torch.nn.Module]) -> list[torch.Tensor]:
    return [value for part in parts for value in part.state_dict().values()]


def same_agent(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(networks(a)), weights(networks(b)), strict=True))


def same_weights(a: Trainer, b: Trainer) -> bool:
    return same_agent(a, b) and all(torch.equal(x, y) for x, y in zip(weights(models(a)), weights(models(b)), strict=True))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint does it: only plain tensors, numbers and strings survive."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# --- the plan ----------------------------------------------------------------------------------------------------------


def test_plan_of_a_run() -> None:
    phases = list(plan(OnlineConfig(env_steps=50, evaluate_every=20), adapt_every=30))
    assert phases == [
        Phase("warm_start", 0),
        Phase("evaluate", 0),
        Phase("checkpoint", 0),
        Phase("collect_and_update", 20),
        Phase("evaluate", 20),
        Phase("checkpoint", 20),
        Phase("collect_and_update", 30),
        Phase("adapt", 30),
        Phase("collect_and_update", 40),
        Phase("evaluate", 40),
        Phase("checkpoint", 40),
        Phase("collect_and_update", 50),
        Phase("evaluate", 50),
        Phase("checkpoint", 50),
    ]


def test_plan_adapts_before_it_evaluates_at_the_same_step() -> None:
    kinds = [phase.kind for phase in plan(OnlineConfig(env_steps=20, evaluate_every=20), adapt_every=20) if phase.steps]
    assert kinds == ["collect_and_update", "adapt", "evaluate", "checkpoint"]


def test_plan_without_adaptation() -> None:
    assert all(phase.kind != "adapt" for phase in plan(OnlineConfig(env_steps=50, evaluate_every=20), adapt_every=0))


def test_a_resumed_plan_is_the_rest_of_the_plan() -> None:
    config = OnlineConfig(env_steps=70, evaluate_every=20)
    whole = list(plan(config, 30))
    for done, phase in enumerate(whole, start=1):
        assert list(plan(config, 30, phase)) == whole[done:]
    assert list(plan(config, 30, Phase("collect_and_update", 33))) == whole[whole.index(Phase("collect_and_update", 40)) :]
    assert next(plan(replace(config, env_steps=90), 30, whole[-1])) == Phase("collect_and_update", 80)


# --- what a run does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
def test_metrics_of_a_run(make: Make, count: int) -> None:
    """Also where the steps between evaluations are no multiple of the environments."""
    trainer = make(online=replace(ONLINE, num_envs=count))
    assert len({episode.observation.tobytes() for episode in trainer._open}) == count
    lines = [trainer.run_phase(phase) for phase in plan(ONLINE, 20) if phase.kind != "checkpoint"]
    lines = [line for line in lines if line is not None]
    assert [line["env_steps"] for line in lines] == [0, 30, 60]
    assert [line["gradient_steps"] for line in lines] == [3, 3 + 2 * 21, 3 + 2 * 51]
    assert [line["replay/online"] for line in lines] == [0, 30, 60]
    for line in lines:
        assert set(line) >= toys.REQUIRED_METRICS
        assert all(value is None or np.isfinite(value) for value in line.values())
    spent = sum(lines[-1][f"time/{part}_seconds"] for part in ("env", "update", "synthesis", "adapt", "evaluate"))
    assert 0 < spent <= lines[-1]["time/seconds"]


def test_checkpoints_are_the_callers(make: Make) -> None:
    with pytest.raises(ValueError, match="written by the caller"):
        make(imagines=False).run_phase(Phase("checkpoint", 0))


@pytest.mark.parametrize("count", [1, 3])
def test_real_replay_holds_what_happened(make: Make, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """D_o against the episodes as each environment gave them: only a termination stops bootstrapping, the last state is the episode's own,
    and no episode reaches into another."""
    trainer = make(imagines=False, online=replace(ONLINE, update_after_env_steps=10_000, num_envs=count))
    for environment, episode in zip(trainer.environments, trainer._open, strict=True):
        watch(monkeypatch, environment, episode.state)
    trainer.collect_and_update(200, lambda n: None)
    expected = Buffer(2_000, 4, 2, REPLAY.n_step, AGENT.discount)
    episodes = [episode for environment in trainer.environments for episode in environment.watched()]  # type: ignore[attr-defined]
    for episode in episodes:
        expected.add_trajectory(episode)
    assert trainer.env_steps == len(expected) == len(trainer.replay.online) == 200
    assert {e.terminated for e in episodes} == {True, False}
    assert np.allclose(in_order(trainer.replay.online), in_order(expected), atol=1e-5)
    assert trainer.successes == sum(e.terminated for e in episodes)
    assert trainer.episodes == sum(e.terminated or len(e) == toys.REACH.max_episode_steps for e in episodes) > 12


def watch(monkeypatch: pytest.MonkeyPatch, environment: TaskEnvironment, state: np.ndarray) -> None:
    """Give the environment `watched()`: the trajectories of what was done in it from now on, the open one among them."""
    ended: list[Trajectory] = []
    states, actions, rewards, tasks = [state], [], [], []
    step, reset = environment.step, environment.reset

    def trajectory(terminated: bool) -> Trajectory:
        return Trajectory(np.stack(states), np.stack(actions), np.float32(rewards), tasks[-1], terminated=terminated, truncated=not terminated)

    def watched_step(action: np.ndarray) -> Any:
        result = step(action)
        for kept, value in zip((states, actions, tasks, rewards), (result[0], action, result[1], result[2]), strict=True):
            kept.append(value)
        if result[3] or result[4]:
            ended.append(trajectory(result[3]))
        return result

    def watched_reset(seed: int) -> Any:
        result = reset(seed)
        for kept in (states, actions, rewards, tasks):
            kept.clear()
        states.append(result[0])
        return result

    monkeypatch.setattr(environment, "step", watched_step)
    monkeypatch.setattr(environment, "reset", watched_reset)
    monkeypatch.setattr(environment, "watched", lambda: [*ended, *([trajectory(False)] if actions else [])], raising=False)


def in_order(buffer: Buffer) -> np.ndarray:
    """All transitions as rows, sorted: whatever order they came in."""
    return np.asarray(sorted(torch.cat([part.reshape(len(buffer), -1) for part in buffer.last(len(buffer))[:5]], 1).tolist()))


def test_imagination_begins_where_the_agent_is(make: Make) -> None:
    trainer = make()
    visited: set[tuple[float, ...]] = set()
    trainer.collect_and_update(60, lambda n: visited.add(tuple(trainer._open[0].observation)))
    assert trainer.trigger.trajectories == len(trainer.imagined) > 3
    for imagined in trainer.imagined:
        assert tuple(np.concatenate([imagined.trajectory.states[0], imagined.trajectory.task])) in visited


@pytest.mark.parametrize("ratio", [0.3, 0.75])
def test_realised_share_in_the_loop(make: Make, ratio: float) -> None:
    trainer = make(replay=replace(REPLAY, synthetic_ratio=ratio, synthetic_capacity=10_000), online=replace(ONLINE, update_after_env_steps=10_000))
    trainer.collect_and_update(2_000, lambda n: None)
    assert trainer.replay.synthetic_share == pytest.approx(ratio, abs=0.01)
    assert len(trainer.replay.synthetic) == trainer.trigger.transitions


def test_warm_start_takes_no_step(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(online=replace(ONLINE, warm_start_offline_share=0.0))
    monkeypatch.setattr(trainer.environment, "step", forbidden)
    trainer.warm_start()
    assert trainer.env_steps == len(trainer.replay.online) == 0
    assert trainer.agent.gradient_steps == 3
    assert len(trainer.imagined) == 5
    assert trainer.replay.warm_start_transitions == len(trainer.replay.synthetic) == sum(len(i.trajectory) for i in trainer.imagined)
    assert trainer.replay.synthetic_share == 0.0
    starts = [trainer.environment.reset(episode_seed(0, -1 - i))[0] for i in range(5)]
    assert all(np.array_equal(i.trajectory.states[0], s) for i, s in zip(trainer.imagined, starts, strict=True))


def test_warm_start_begins_in_resets_and_in_offline_states(make: Make, offline: OfflineData) -> None:
    trainer = make(online=replace(ONLINE, warm_start_offline_share=0.4))
    trainer.warm_start()
    offline_states = {state.tobytes() for state in offline.states}
    known = [imagined.trajectory.states[0].tobytes() in offline_states for imagined in trainer.imagined]
    assert known == [True, True, False, False, False]


def test_warm_start_under_the_goals_of_the_data(make: Make, offline: OfflineData) -> None:
    """Then states come with the tasks of their episodes, and only the others need a reset."""
    trainer = make(online=replace(ONLINE, warm_start_offline_share=0.4, warm_start_goals="own"))
    trainer.warm_start()
    pairs = {(t.states[i].tobytes(), t.task.tobytes()) for t in offline.trajectories() for i in range(len(t))}
    known = [(one.trajectory.states[0].tobytes(), one.trajectory.task.tobytes()) in pairs for one in trainer.imagined]
    assert known == [True, True, False, False, False]
    assert [len(part) for part in trainer.state_dict()["warm_starts"]] == [3, 3]


def test_warm_start_leaves_the_first_episode_alone(make: Make) -> None:
    """Its resets are not those of the run: the first episode begins where it would without it."""
    trainer = make()
    before = trainer._open[0].state.copy()
    trainer.warm_start()
    assert np.array_equal(trainer._open[0].state, before)
    seeds = [episode_seed(0, episode) for episode in range(-300, 300)]
    assert len(set(seeds)) == 600


def test_warm_start_on_offline_data_or_on_nothing(make: Make) -> None:
    control = make(imagines=False, offline_buffer=True, replay=replace(REPLAY, offline_ratio=0.5, synthetic_ratio=0.0))
    control.warm_start()
    assert control.agent.gradient_steps == 3
    plain = make(imagines=False)
    plain.warm_start()
    assert plain.agent.gradient_steps == 0


def test_adaptation_waits_for_an_episode(make: Make) -> None:
    trainer = make()
    trainer.adapt()
    assert trainer.adaptations == []
    trainer.collect_and_update(30, lambda n: None)
    trainer.adapt()
    assert len(trainer.adaptations) == 3
    assert 0 < len(trainer.imagination.picked) <= 3  # type: ignore[union-attr]
    (distances,) = trainer.distances
    assert distances.env_steps == 30
    assert min(distances.before, distances.after) > 0
    assert trainer.evaluate()["adaptation/forgotten"] is not None


def test_models_that_differ_have_another_revision(make: Make) -> None:
    trainer = make()
    states = [through_a_file(trainer.state_dict())]
    trainer.collect_and_update(30, lambda n: None)
    states.append(through_a_file(trainer.state_dict()))
    trainer.adapt()
    states.append(through_a_file(trainer.state_dict()))
    trainer.roll_back(states[0])
    states.append(through_a_file(trainer.state_dict()))
    contents = [[str(weight.tolist()) for model in state["models"].values() for weight in model.values()] for state in states]
    assert [state["revisions"]["models"] for state in states] == ["0.0", "0.0", "1.0", "1.1"]
    assert contents[0] == contents[1] == contents[3] != contents[2]
    assert len({state["revisions"]["originals"] for state in states}) == 1


REVERSED = replace(toys.REACH, kwargs={"gain": -1.0})
ACTUATORS = replace(ADAPTATION, actuators=True)


def test_where_actuators_have_changed_imagination_begins_anew(make: Make) -> None:
    """Of five seeds: so little is learned here that one run's distance to reality may as well rise."""
    online, nearer = replace(ONLINE, warm_start_trajectories=20), 0.0
    for seed in range(5):
        trainer = make(environment=REVERSED, adaptation=ACTUATORS, online=online, seed=seed)
        trainer.warm_start()
        trainer.collect_and_update(40, lambda n: None)
        steps, share, stored = trainer.agent.gradient_steps, trainer.replay.synthetic_share, len(trainer.replay.synthetic)
        trainer.adapt()
        synthesizer = trainer.imagination.synthesizer  # type: ignore[union-attr]
        np.testing.assert_allclose(synthesizer.actuators.strength, [-1, -1], rtol=0.2)
        assert trainer.agent.gradient_steps == steps + online.warm_start_gradient_steps
        assert 20 <= len(trainer.replay.synthetic) != stored
        assert trainer.replay.synthetic_share == pytest.approx(share, abs=1e-9)
        nearer += trainer.distances[-1].before - trainer.distances[-1].after
        trainer.adapt()
        assert trainer.agent.gradient_steps == steps + online.warm_start_gradient_steps  # nothing has changed since
        assert trainer.evaluate()["adaptation/strength"] == pytest.approx(-1, rel=0.2)
    assert nearer > 0


@pytest.mark.parametrize("warm", [True, False])
def test_where_actuators_have_changed_a_new_agent_learns_from_imagination_alone(make: Make, warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the first warm start, before there was anything real; without one there is nothing to put in the agent's place."""
    online = ONLINE if warm else replace(ONLINE, warm_start_gradient_steps=0)
    trainer, fresh = make(environment=REVERSED, adaptation=ACTUATORS, online=online), make()
    trainer.warm_start()
    trainer.collect_and_update(40, lambda n: None)
    learned, drawn, sample = copy.deepcopy(trainer), list[tuple[bool, set[int]]](), trainer.replay.sample

    def watched(*arguments: Any) -> Any:
        batch = sample(*arguments)
        drawn.append((same_agent(trainer, fresh), set(batch.source.tolist())))
        return batch

    monkeypatch.setattr(trainer.replay, "sample", watched)
    trainer.adapt()
    assert trainer.imagination.synthesizer.actuators is not None  # type: ignore[union-attr]
    assert len(drawn) == online.warm_start_gradient_steps
    assert [begins for begins, _ in drawn] == [True, *[False] * (len(drawn) - 1)][: len(drawn)]
    assert all(sources == {int(Source.IMAGINED)} for _, sources in drawn)
    assert same_agent(trainer, learned) == (not warm)


def test_actuators_that_are_as_they_were_change_nothing(make: Make) -> None:
    trainer = make(adaptation=ACTUATORS)
    run(trainer)
    assert trainer.imagination.synthesizer.actuators is None  # type: ignore[union-attr]
    assert same_weights(trainer, ran(make()))


def test_a_run_that_knows_its_actuators_is_resumed_bit_for_bit(make: Make) -> None:
    straight, stopped, resumed = (make(environment=REVERSED, adaptation=ACTUATORS) for _ in range(3))
    lines = run(straight)
    before = run(stopped, until=30)
    assert resumed.load_state_dict(through_a_file(stopped.state_dict()))
    assert resumed.imagination.synthesizer.actuators is not None
    assert before + run(resumed, start=30) == lines
    assert same_weights(straight, resumed)


def forbidden(*arguments: object) -> None:
    raise AssertionError("the environment's reward function was called")


@pytest.mark.parametrize("learned", [False, True])
def test_generated_and_learned_rewards_ask_no_environment(make: Make, learned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run, adaptation and all, in which the environment's reward function must not be called."""
    monkeypatch.setattr(toys.Reach, "compute_reward", forbidden)
    monkeypatch.setattr(toys.Reach, "compute_terminated", forbidden)
    assert run(make(learned=learned))[-1]["synthesis/trajectories"] > 0


# --- the same again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imagines", [True, False])
def test_the_same_seed_gives_the_same_run(make: Make, imagines: bool) -> None:
    first, second, other = make(imagines), make(imagines), make(imagines, seed=1)
    global_state = torch.get_rng_state()
    lines = run(first)
    torch.manual_seed(77)  # nothing may depend on the global generator
    assert run(second) == lines
    torch.set_rng_state(global_state)
    assert same_weights(first, second)
    assert run(other) != lines


def test_without_imagination_the_ratio_means_nothing(make: Make) -> None:
    ratios = [make(imagines=False, replay=replace(REPLAY, synthetic_ratio=ratio)) for ratio in (0.0, 0.5)]
    assert run(ratios[0]) == run(ratios[1])
    assert same_weights(*ratios)


def test_ratio_zero_is_the_plain_agent_bit_for_bit(make: Make) -> None:
    """Even with all of imagination at hand: at ratio 0 nothing is asked of it, and no draw of its shifts any of the agent's."""
    online = replace(ONLINE, warm_start_gradient_steps=0)
    imagining = make(replay=replace(REPLAY, synthetic_ratio=0.0), online=online)
    plain = make(imagines=False, online=online)
    imagining.collect_and_update(60, lambda n: None)
    plain.collect_and_update(60, lambda n: None)
    assert untimed(imagining.evaluate()) == untimed(plain.evaluate())
    assert len(imagining.replay.synthetic) == 0
    for part in ("actor", "critic", "target_critic"):
        pairs = zip(getattr(imagining.agent, part).parameters(), getattr(plain.agent, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("imagines", "count"), [(True, 1), (False, 1), (True, 4)])
def test_a_resumed_run_is_an_uninterrupted_one(make: Make, imagines: bool, count: int) -> None:
    """Stopped in the middle of episodes, kept in a file, gone on with in new objects: the same bits."""
    straight, stopped, resumed = (make(imagines, online=replace(ONLINE, num_envs=count)) for _ in range(3))
    lines = run(straight)
    before = run(stopped, until=30)
    state = through_a_file(stopped.state_dict())
    run(stopped, start=30)  # what is kept must not change with the run it came from
    assert resumed.load_state_dict(state)
    assert resumed.env_steps == 30
    assert before + run(resumed, start=30) == lines
    assert same_weights(straight, resumed)
    count = len(straight.replay.synthetic)
    assert all(torch.equal(a, b) for a, b in zip(straight.replay.synthetic.last(count), resumed.replay.synthetic.last(count), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(straight.replay.online.last(60), resumed.replay.online.last(60), strict=True))


def test_time_goes_on_after_a_resume(make: Make) -> None:
    stopped, resumed = make(imagines=False), make(imagines=False)
    run(stopped, until=30)
    state = stopped.state_dict()
    resumed.load_state_dict(state)
    line = resumed.evaluate()
    assert line["time/seconds"] >= state["total_seconds"]
    assert line["time/env_seconds"] == state["seconds"]["env"]


def test_where_the_environment_does_not_repeat_a_new_episode_begins(make: Make) -> None:
    stopped, resumed = make(environment=toys.DRIFT), make(environment=toys.DRIFT)
    run(stopped, until=30)
    while not len(stopped._open[0]):  # in the middle of an episode
        stopped.collect_and_update(stopped.env_steps + 1, lambda n: None)
    state = through_a_file(stopped.state_dict())
    assert not resumed.load_state_dict(state)
    assert resumed.episodes == stopped.episodes + 1
    assert len(resumed._open[0]) == 0
    before = resumed.replay.online.last(stopped.env_steps)
    resumed.collect_and_update(stopped.env_steps + 1, lambda n: None)
    after = resumed.replay.online.last(stopped.env_steps + 1)
    for old, new in zip(before, after, strict=True):  # the broken episode's targets are extended no further
        assert torch.equal(old, new[:-1])


def test_generators_are_apart_by_use_and_seed() -> None:
    draws = {
        float(torch.rand((), generator=make_generator(seed, use))) for seed in range(5) for use in ("act", "update", "replay", "trigger")
    }
    assert len(draws) == 20
    assert torch.equal(make_generator(3, "act").get_state(), make_generator(3, "act").get_state())
