"""The process of a shared Prefect server: `python -m atradiff.flows.server_process PORT LOCK USERS`.

LOCK is the descriptor of the file that tells of it, and whose lock it holds as long as it lives. It ends when nobody shares a lock on the file USERS.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time

from atradiff.flows.memory import keep_giving_back, limit_sqlite

LOOKS_SECONDS = 1.0


def _end_without_users(users: str) -> None:
    descriptor = os.open(users, os.O_RDWR | os.O_CREAT, 0o644)
    while True:
        time.sleep(LOOKS_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and so whoever comes now waits until this process has ended
        except BlockingIOError:
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        return


if __name__ == "__main__":
    port, lock, users = sys.argv[1:]
    os.pwrite(int(lock), f"{port} {os.getpid()}".encode(), 0)
    threading.Thread(target=_end_without_users, args=[users], daemon=True).start()
    keep_giving_back()
    limit_sqlite()

    import uvicorn  # takes seconds, in which others may want to know the above

    uvicorn.run("prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=int(port), log_level="error")
