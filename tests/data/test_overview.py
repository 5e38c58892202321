"""What a dataset holds, in numbers."""

from __future__ import annotations

import numpy as np

from atradiff.data.overview import directions


def test_directions_of_variance() -> None:
    """Three entries of which two move together are two directions; one that never changes is none, however large it is."""
    a, b = np.random.default_rng(0).standard_normal((2, 4_000)).astype(np.float32)
    states = np.stack([a, -a, b, np.full(4_000, 1_234.567)], axis=1, dtype=np.float32)
    assert states.std(0)[3] > 1e-6  # in single precision
    assert directions(states) == 2
    assert directions(states[:, 3:]) == 0
