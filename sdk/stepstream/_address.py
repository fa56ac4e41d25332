"""The address of a run's page, if `stepstream up` runs on this home."""

from __future__ import annotations

import json
import os


def page(home: str, run_id: str) -> str | None:
    """The address; None if no running dashboard is known.

    `stack.json` in the home has the dashboard's address. It is valid only while the `up` that wrote it
    holds the lock beside it.
    """
    try:
        import fcntl
        from urllib.parse import quote

        with open(os.path.join(home, "stack.lock"), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # the lock is held, so `up` runs
            else:
                return None
        with open(os.path.join(home, "stack.json"), encoding="utf-8") as file:
            return f"{json.load(file)['dashboard_url']}/runs/{quote(run_id, safe='')}"
    except Exception:  # training goes on, whatever failed
        return None
