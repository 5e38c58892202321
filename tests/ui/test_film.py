"""`atradiff imagine --video`, with a real renderer and a real encoder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from atradiff.project.layout import Layout

pytestmark = pytest.mark.xdist_group("docs")
ATRADIFF = Path(sys.executable).parent / "atradiff"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves its reader's pipes open
def test_the_film_has_a_frame_for_each_state_and_begins_with_the_same_on_both_sides(online_project: Layout) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MUJOCO_GL")}
    command = [ATRADIFF, "imagine", "--video", "film.mp4"]
    done = subprocess.run(command, cwd=online_project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout.split()[0])
    with imageio.get_reader(online_project.root / "film.mp4") as reader:
        frames = [frame.astype(int) for frame in reader]
    assert len(frames) == steps + 1
    left, right = np.split(frames[0], 2, axis=1)
    assert np.abs(left - right).mean() < 1  # but for the encoding
    assert left.std() > 10
