"""A counted campaign over one reader: `python tests/fuzz.py READER FOLDER [libFuzzer's options, such as -runs=1000000]`; see `make fuzz`.

atheris changes good files under the guidance of the code that is run through. What it finds stays in FOLDER, and FOLDER/counts.json tells
how many inputs were tried, how many of them were read, and how many refused.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import atheris

LOOKED_INTO = ["atradiff", "ruamel"]
with atheris.instrument_imports(include=LOOKED_INTO):
    from readers import READERS, make_reader


def main() -> None:
    name, folder, *options = sys.argv[1:]
    if name not in READERS:
        sys.exit(f"there is no reader {name!r}: choose one of {', '.join(READERS)}")
    found = Path(folder).resolve()
    corpus = found / name
    corpus.mkdir(parents=True, exist_ok=True)
    counts, began = {"reader": name, "inputs": 0, "read": 0, "refused": 0}, time.monotonic()
    reader = make_reader(name, Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)))
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def tell() -> None:
        counts["seconds"] = round(time.monotonic() - began)
        (found / f"{name}-counts.json").write_text(json.dumps(counts) + "\n")

    def try_one(content: bytes) -> None:
        counts["inputs"] += 1
        counts["read" if reader(content) else "refused"] += 1
        if counts["inputs"] % 100 == 0:  # libFuzzer ends without a word to Python
            tell()

    limits = ["-max_len=100000", "-timeout=60", "-rss_limit_mb=4000"]
    whole = "-keep_seed=1"  # else a byte that gets as far as a good file takes its place, and nothing almost good is tried any more
    atheris.Setup([sys.argv[0], f"-artifact_prefix={found}/{name}-", whole, *limits, *options, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
