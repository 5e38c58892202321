"""The short form of `make fuzz`: good files with a few bytes changed, cut or repeated are read, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readers import READERS, Reader, make_reader

EXAMPLES = {"metrics": 200, "params": 60}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return make_reader(request.param, tmp_path)


def test_good_files_are_read(reader: Reader) -> None:
    assert all(reader(seed) for seed in reader.seeds())


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    reader = make_reader(name, tmp_path)

    @settings(max_examples=EXAMPLES.get(name, 30))
    @given(st.sampled_from(reader.seeds()), st.data())
    def changed(seed: bytes, data: st.DataObject) -> None:
        content = bytearray(seed)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(1, max(1, len(content) - 1)))
            until = at + data.draw(st.integers(0, 8))
            content[at:until] = data.draw(st.binary(max_size=8))
        reader(bytes(content))

    changed()
