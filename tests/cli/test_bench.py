"""The command that measures, on a job that takes no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from atradiff import cli
from atradiff.bench import jobs
from atradiff.bench.measure import OURS, Bench, Contender, Contest, Row


def nothing(bench: Bench) -> list[Row]:
    instant = Bench(bench.machine, bench.repeats, bench.peers, repeat_seconds=0.0)
    contenders = [Contender(OURS, lambda calls: None, "cpu"), Contender("peer", lambda calls: None, "cpu")]
    return instant.measure(Contest("data/nothing", "nothings/s", 1, contenders, floor_seconds=1e-9))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("atradiff.bench.machine.MATRIX_SIZES", {"cpu": 64})
    monkeypatch.setattr("atradiff.bench.machine.COPIED_BYTES", {"cpu": 2**16})
    monkeypatch.setitem(jobs.JOBS, "data", (nothing,))
    monkeypatch.setattr("atradiff.project.artifacts.device", lambda: "cpu")
    monkeypatch.setattr(sys, "argv", ["atradiff", "bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_table_rows_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    assert call(monkeypatch, "data", "--repeats", "2", "--threads", "1", "--json", str(rows), "--out", str(picture)) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("data/nothing", "nothings/s", "peer", "floor", "GFLOP/s"))
    told = json.loads(rows.read_text())
    assert [row["impl"] for row in told] == [OURS, "peer", "floor"]
    assert set(told[0]) == {"job", "impl", "device", "unit", "median", "min", "max", "ratio"}
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("data", "--out", "bench.jpg"), "must end in .png or .svg"),
        (("data", "--threads", "100000"), "is more than the"),
        (("train", "--peers"), "pip install -c constraints.txt -e '.[bench]'"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert call(monkeypatch, *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert told in err
