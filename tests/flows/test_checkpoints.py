from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atradiff.errors import UserError
from atradiff.flows.checkpoints import Checkpoints
from atradiff.flows.run_folder import RunFolder
from atradiff.project.layout import Layout
from atradiff.replay.buffer import Buffer
from projects import online_params
from toys import line_trajectory

ROW_BYTES = 4 * (4 + 4 + 2 + 2)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "a", online_params(), "agent", 3, Layout(tmp_path, "tiny"))


def buffer(capacity: int = 40) -> Buffer:
    return Buffer(capacity, observation_dim=4, action_dim=2, n_step=3, discount=0.9)


def filled(transitions: int) -> Buffer:
    full = buffer(transitions + 10)
    full.add_trajectory(line_trajectory(transitions, terminated=False))
    return full


def state(online: Buffer | None = None, synthetic: Buffer | None = None, revision: str = "0", **more: Any) -> dict[str, Any]:
    replays = {name: (buffer() if given is None else given).state_dict() for name, given in (("online", online), ("synthetic", synthetic))}
    return {"replay": replays, "revisions": {"models": revision}, **more}


def evaluated(env_steps: int, success: float | None, value: float = 0.0) -> dict[str, Any]:
    return {"env_steps": env_steps, "eval/success_rate": success, "eval/return": value}


def newest(run: RunFolder) -> dict[str, Any]:
    found = Checkpoints(run).latest(pytest.fail)
    assert found is not None
    return found


def test_a_checkpoint_comes_back_and_explains_itself(run: RunFolder) -> None:
    path = Checkpoints(run).write(7, state(w=torch.arange(3.0), models={"a": torch.ones(2)}), None, keep=2)
    assert path.name == "step-000000007"
    found = newest(run)
    assert torch.equal(found["w"], torch.arange(3.0))
    assert torch.equal(found["models"]["a"], torch.ones(2))
    manifest = json.loads((path / "manifest.json").read_text())
    assert {"versions", "seed", "arm", "env_steps", "evaluation", "data_sha256", "git_commit", "sha256", "state_format"} <= manifest.keys()
    assert set(manifest["sha256"]) == {file.name for file in path.iterdir()} - {"manifest.json"}


def test_the_newest_are_kept_and_the_best(run: RunFolder) -> None:
    checkpoints = Checkpoints(run)
    for step, success in enumerate((0.0, 0.9, 0.5, 0.9, 0.1, 0.2, 0.3)):
        checkpoints.write(step, state(step=step), evaluated(step, success), keep=2)
    assert [path.name for path in checkpoints.folders()] == ["step-000000003", "step-000000005", "step-000000006"]
    assert checkpoints.best() == checkpoints.folders()[0]
    assert newest(run)["step"] == 6


def test_the_best_is_by_return_where_nobody_tells_of_success(run: RunFolder) -> None:
    checkpoints = Checkpoints(run)
    assert checkpoints.best() is None
    for step, value in enumerate((-3.0, -1.0, -2.0)):
        checkpoints.write(step, state(), evaluated(step, None, value), keep=1)
    checkpoints.write(3, state(), None, keep=1)
    assert [path.name for path in checkpoints.folders()] == ["step-000000001", "step-000000003"]


def test_nothing_whole_is_ever_replaced(run: RunFolder) -> None:
    checkpoints = Checkpoints(run)
    for step in range(11):
        assert checkpoints.write(5, state(step=step), None, keep=3).name == "step-000000005" + (f"-{step + 1}" if step else "")
    assert [path.name for path in checkpoints.folders()] == ["step-000000005-9", "step-000000005-10", "step-000000005-11"]
    assert newest(run)["step"] == 10


def test_what_a_kill_left_is_no_checkpoint(run: RunFolder) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.write(1, state(step=1), None, keep=2)
    for left in ("step-000000002.writing", "step-000000000.removing"):
        (run.path / "checkpoints" / left).mkdir()
    assert newest(run)["step"] == 1
    checkpoints.write(2, state(step=2), None, keep=2)
    assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == ["step-000000001", "step-000000002"]


def test_without_a_checkpoint_there_is_nothing(run: RunFolder) -> None:
    assert Checkpoints(run).latest(pytest.fail) is None


@pytest.mark.parametrize("file", ["state.pt", "models.pt", "online-0-000000000020-000000000030.rows", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty", "changed"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run: RunFolder, file: str, damage: str) -> None:
    checkpoints, online = Checkpoints(run), filled(20)
    checkpoints.write(1, state(online, step=1, models=torch.zeros(3)), None, keep=2)
    online.add_trajectory(line_trajectory(10, terminated=True))
    path = checkpoints.write(2, state(online, revision="1", step=2, models=torch.ones(3)), None, keep=2)
    content = (path / file).read_bytes()
    (path / file).unlink()
    if damage == "changed":
        (path / file).write_bytes(b"#" + content[1:])
    elif damage != "missing":
        (path / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    warnings: list[str] = []
    checkpoints = Checkpoints(run)
    found = checkpoints.latest(warnings.append)
    assert found is not None
    assert found["step"] == 1
    (warning,) = warnings
    assert "step-000000002 is cut short or damaged" in warning
    checkpoints.write(2, state(online, step=2), None, keep=2)
    assert len(list((run.path / "checkpoints").glob("damaged-step-000000002-*"))) == 1
    assert newest(run)["step"] == 2


def test_nothing_is_gone_on_from_where_all_checkpoints_are_damaged(run: RunFolder) -> None:
    (Checkpoints(run).write(1, state(), None, keep=2) / "state.pt").write_bytes(b"")
    warnings: list[str] = []
    with pytest.raises(UserError, match=r"every checkpoint in .* is cut short or damaged"):
        Checkpoints(run).latest(warnings.append)
    assert len(warnings) == 1


def test_a_checkpoint_of_another_format_is_refused_with_the_reason(run: RunFolder) -> None:
    manifest = Checkpoints(run).write(1, state(), None, keep=2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"state_format": 7', '"state_format": 6'))
    with pytest.raises(UserError, match=r"has the format 6, this version of atradiff goes on from 7: start the run anew, or use the version that wrote it"):
        newest(run)


def test_a_disk_that_takes_no_more_leaves_the_earlier_checkpoints_whole(run: RunFolder) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.write(1, state(step=1), None, keep=2)
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, most))
    try:
        with pytest.raises(UserError, match=r"the checkpoint at env step 2 cannot be written \(File too large\): the run's earlier checkpoints are whole"):
            checkpoints.write(2, state(filled(1_000), step=2), None, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert newest(run)["step"] == 1
    checkpoints.write(2, state(filled(1_000), step=2), None, keep=2)
    assert newest(run)["step"] == 2


def test_a_checkpoint_costs_what_has_changed(run: RunFolder) -> None:
    checkpoints, online = Checkpoints(run), Buffer(30_000, 4, 2, 3, 0.9)
    models = {"w": torch.zeros(100_000)}
    online.add_trajectory(line_trajectory(20_000, terminated=True))
    first = checkpoints.write(1, state(online, models=models), None, keep=2)
    online.add_trajectory(line_trajectory(5_000, terminated=True))
    second = checkpoints.write(2, state(online, models=models), None, keep=2)
    before = {file.stat().st_ino for file in first.iterdir()}
    written = sum(file.stat().st_size for file in second.iterdir() if file.stat().st_ino not in before)
    assert 5_000 * ROW_BYTES <= written <= 1.2 * 5_000 * ROW_BYTES


def test_models_are_written_when_they_have_another_revision(run: RunFolder) -> None:
    checkpoints, models = Checkpoints(run), {"w": torch.zeros(3)}
    checkpoints.write(1, state(models=models), None, keep=2)
    models["w"] += 1
    checkpoints.write(2, state(revision="1", models=models), None, keep=2)
    assert torch.equal(newest(run)["models"]["w"], torch.ones(3))
    resumed = Checkpoints(run)
    resumed.latest(pytest.fail)
    third = resumed.write(3, state(revision="1", models=models), None, keep=2)
    assert (third / "models.pt").stat().st_nlink == 2
    assert torch.equal(newest(run)["models"]["w"], torch.ones(3))


def test_where_there_are_no_hard_links_files_are_copied(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    checkpoints, online = Checkpoints(run), filled(20)
    for step in (1, 2):
        checkpoints.write(step, state(online, step=step), None, keep=1)
    assert torch.equal(newest(run)["replay"]["online"]["rows"], online.state_dict()["rows"])


EVENTS = st.one_of(st.integers(1, 12), st.sampled_from(["trajectory", "clear", "checkpoint", "resume"]))


@settings(max_examples=40)
@given(actions=st.lists(EVENTS, max_size=20))
def test_a_replay_comes_back_from_its_segments(tmp_path_factory: pytest.TempPathFactory, actions: list[int | str]) -> None:
    """Whatever happens to it between checkpoints: episodes of steps that overwrite the oldest, trajectories, forgetting, a resume."""
    folder = tmp_path_factory.mktemp("run")
    run = RunFolder.create(folder / "a", online_params(), "agent", 0, Layout(folder, "tiny"))
    checkpoints, online, env_steps = Checkpoints(run), buffer(15), 0
    for action in [*actions, "checkpoint", "resume"]:
        match action:
            case "trajectory":
                online.add_trajectory(line_trajectory(7, terminated=True, first=env_steps))
            case "clear":
                online.clear()
            case "checkpoint":
                checkpoints.write(env_steps, state(online), None, keep=2)
                kept = {**online.state_dict(), "rows": online.state_dict()["rows"].clone()}
            case "resume":
                checkpoints = Checkpoints(run)
                found = checkpoints.latest(pytest.fail)
                if found is not None:
                    online = buffer(15)
                    online.load_state_dict(found["replay"]["online"])
                    assert torch.equal(online.state_dict().pop("rows"), kept["rows"])
                    assert {**online.state_dict(), "rows": 0} == {**kept, "rows": 0}
            case int(steps):
                for _ in range(steps):
                    env_steps += 1
                    row = np.full(4, env_steps, np.float32)
                    online.add_step(row, row[:2], 1.0, row + 1, env_steps % 10 == 0, env_steps % 7 == 0)
            case _:
                raise AssertionError(action)
