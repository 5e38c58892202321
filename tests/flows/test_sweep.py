"""Which flow runs that are said to be running are not."""

from __future__ import annotations

from pathlib import Path

from atradiff.flows.flow import why_killed
from atradiff.flows.run_lock import RunLock, is_held


def test_a_run_is_gone_when_nobody_holds_its_folder(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("ours", "alive", "dead", "older")}
    for folder in folders.values():
        folder.mkdir()
    locks = [RunLock(folders["ours"]), RunLock(folders["alive"])]
    RunLock(folders["dead"]).release()
    told = {name: why_killed(folder, folders["ours"]) for name, folder in folders.items()}
    assert told["ours"] == "killed, and resumed later"
    assert told["alive"] is None
    assert told["dead"] == told["older"] == "its process is gone: --resume goes on with it"
    assert why_killed(tmp_path / "on another machine", folders["ours"]) is None
    for lock in locks:
        lock.release()
    assert not is_held(folders["alive"])
