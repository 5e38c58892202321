from __future__ import annotations

from pathlib import Path

import pytest

from atradiff.errors import UserError
from atradiff.project.layout import Layout, find_root


def test_the_root_is_the_nearest_folder_with_params(tmp_path: Path) -> None:
    inner = tmp_path / "inner" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "params.yaml").touch()
    assert find_root(inner) == tmp_path
    (tmp_path / "inner" / "params.yaml").touch()
    assert find_root(inner) == tmp_path / "inner"


def test_no_root_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no params\.yaml in .* or above"):
        find_root(tmp_path)


def test_tasks_share_no_artifact(tmp_path: Path) -> None:
    first, second = Layout(tmp_path, "a"), Layout(tmp_path, "b")
    assert first.data == tmp_path / "data" / "a"
    assert first.data not in second.denoiser(32).model.parents
    assert first.denoiser(32).model != first.denoiser(64).model
