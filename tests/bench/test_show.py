"""The rows as people see them."""

from __future__ import annotations

import pytest
from rich.console import Console

from atradiff.bench.measure import OURS, Row
from atradiff.bench.show import bench_table, significant


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.01234, "0.0123"), (3.14159, "3.14"), (99.96, "100"), (1234.0, "1,230"), (9_999.0, "10 k"),
        (54_321.0, "54.3 k"), (999_999.0, "1 M"), (1_234_567.0, "1.23 M"), (283e6, "283 M"), (2.5e9, "2.5 G"),
    ],
)  # fmt: skip
def test_three_digits_are_enough(value: float, told: str) -> None:
    assert significant(value) == told


@pytest.mark.parametrize("job", ["scale/convert 1,000,000", "online/step, 16 environments"])
def test_the_table_fits_a_terminal(job: str) -> None:
    """What is too wide is a job's name, which goes on in the next line; numbers and headings are whole."""
    rows = [
        Row(job=job, impl=impl, device="cpu", unit="x the arrays' bytes", median=1.23e5, min=123_456.0, max=456_789.0, ratio=ratio)
        for impl, ratio in ((OURS, None), ("stable-baselines3", 0.000224))
    ]
    console = Console(width=80, record=True)
    console.print(bench_table(rows))
    text = console.export_text()
    assert "…" not in text
    assert text.split()[:6] == ["job", "by", "median", "min", "to", "max"]
    assert text.count(job.split()[0]) == 1
    assert all(word in text for word in (*job.split(), "123 k to 457 k", "0.000224", "stable-baselines3"))
