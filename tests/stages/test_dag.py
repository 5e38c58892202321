"""The properties of dvc.yaml, on a project folder with a few gradient steps, run as a user runs it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atradiff.errors import UserError
from atradiff.params.schema import Params
from atradiff.project.layout import Layout
from atradiff.project.staleness import require_offline_stages
from projects import make_repo, tiny_params, write_params


class Repo:
    """A project folder under git and DVC."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.env = root, env

    def dvc(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def reproduce(self, *arguments: str) -> list[str]:
        """The stages that `dvc repro` ran (and did not skip or restore)."""
        return re.findall(r"^Running stage '(.+)':", self.dvc("repro", *arguments), re.MULTILINE)

    def stale(self) -> dict[str, Any]:
        return json.loads(self.dvc("status", "--json"))

    def write(self, params: Params) -> Layout:
        return write_params(self.root, params)


@pytest.fixture(scope="module")
def params() -> Params:
    return replace(tiny_params(), denoiser=replace(tiny_params().denoiser, horizons=[8]))


@pytest.fixture(scope="module")
def repo(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """All stages have run in it."""
    root = tmp_path_factory.mktemp("repo")
    repo = Repo(root, make_repo(root))
    repo.write(params)
    ran = repo.reproduce()
    assert ran == ["collect", "convert", "train_denoiser@8", "train_length_estimator", "train_reward_model", "evaluate_synthesis"]
    return repo


@pytest.fixture
def edit(repo: Repo, params: Params) -> Iterator[Callable[[Params], Layout]]:
    """Write other parameters; the first ones are put back, with their results, afterwards."""
    yield repo.write
    repo.write(params)
    repo.dvc("checkout")


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def test_a_second_run_does_nothing(repo: Repo) -> None:
    assert repo.stale() == {}
    assert repo.reproduce() == []


def test_what_a_killed_repro_leaves_does_not_stop_the_next(repo: Repo) -> None:
    (repo.root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"')
    with pytest.raises(AssertionError, match="Unable to read RWLock-file"):
        repo.dvc("repro")
    done = subprocess.run([sys.executable, "-m", "atradiff.cli", "repro"], cwd=repo.root, env=repo.env, capture_output=True, text=True, check=True)
    assert "Data and pipelines are up to date." in done.stdout


def test_rewriting_the_store_gives_the_same_bytes(repo: Repo, params: Params) -> None:
    layout = Layout(repo.root, params.task.name)
    before = tree_hash(layout.store)
    assert repo.reproduce("--force", "--single-item", "convert") == ["convert"]
    assert tree_hash(layout.store) == before
    assert repo.stale() == {}


def test_online_settings_make_nothing_stale(repo: Repo, params: Params, edit: Callable[[Params], Layout]) -> None:
    edit(
        replace(
            params,
            online=replace(params.online, env_steps=17),
            agent=replace(params.agent, width=32),
            replay=replace(params.replay, n_step=3),
            adaptation=replace(params.adaptation, adapt_every=5),
        )
    )
    assert repo.stale() == {}


def test_a_denoisers_setting_makes_only_the_denoiser_stale(repo: Repo, params: Params, edit: Callable[[Params], Layout]) -> None:
    edit(replace(params, denoiser=replace(params.denoiser, train=replace(params.denoiser.train, learning_rate=0.5))))
    assert list(repo.stale()) == ["train_denoiser@8"]


def test_an_estimators_setting_makes_only_the_estimator_stale(repo: Repo, params: Params, edit: Callable[[Params], Layout]) -> None:
    changed = edit(replace(params, length_estimator=replace(params.length_estimator, train=replace(params.length_estimator.train, seed=9))))
    assert list(repo.stale()) == ["train_length_estimator"]
    with pytest.raises(UserError, match=r"train_length_estimator out of date\): run `dvc repro`"):
        require_offline_stages(repo.root, replace(params, length_estimator=_read(changed).length_estimator))
    require_offline_stages(repo.root, _read(changed), models=False)


def _read(layout: Layout) -> Params:
    from atradiff.params.load import load_params

    return load_params(layout.params)


def test_a_missing_model_is_named(repo: Repo, params: Params) -> None:
    require_offline_stages(repo.root, params)
    Layout(repo.root, params.task.name).denoiser(8).model.unlink()
    with pytest.raises(UserError, match=r"train_denoiser@8 missing"):
        require_offline_stages(repo.root, params)
    assert repo.reproduce() == []  # restored from the cache


def test_metrics_and_plots_need_no_network(repo: Repo) -> None:
    assert "one_step_error/8" in repo.dvc("metrics", "show", "--md")
    repo.dvc("plots", "show", "--out", "plots")
    page = (repo.root / "plots" / "index.html").read_text()
    assert page.count("<img") == 4  # three losses and the imagined trajectories
    assert not re.search(r"""(src|href)=["']https?:""", page)
    shutil.rmtree(repo.root / "plots")


def test_a_new_horizon_trains_only_itself(repo: Repo, params: Params, edit: Callable[[Params], Layout]) -> None:
    edit(replace(params, denoiser=replace(params.denoiser, horizons=[8, 16])))
    assert sorted(repo.stale()) == ["evaluate_synthesis", "train_denoiser@16"]
    assert repo.reproduce("train_denoiser", "train_length_estimator") == ["train_denoiser@16"]


def test_a_task_and_back_is_restored_without_training(repo: Repo, params: Params, edit: Callable[[Params], Layout]) -> None:
    other = edit(replace(params, task=replace(params.task, name="other")))
    assert repo.reproduce("convert") == ["collect", "convert"]
    assert other.store.is_dir()
    layout = repo.write(params)
    shutil.rmtree(layout.data)
    assert repo.reproduce() == []
    assert repo.stale() == {}
    assert layout.denoiser(8).model.is_file()
