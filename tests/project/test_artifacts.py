from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import torch
from atradiff.project.artifacts import set_up_torch

set_up_torch()
assert torch.get_num_threads() == 1
assert float((torch.full((100_000,), 1e-30) * 1e-10).abs().max()) == 0
"""


def test_numbers_too_small_for_float32_are_zero_in_a_run() -> None:
    """In a process of its own, as it is the process's threads that are set up."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
