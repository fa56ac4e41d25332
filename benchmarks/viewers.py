"""Viewers on machines of their own: each takes deltas as a page does, a frame at a time, and paints none.

`python -m benchmarks.viewers URL RUN AGENT COUNT`: until its input ends; prints how many deltas came.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

FRAME_S = 1 / 60


async def _view(url: str, run_id: str, agent_id: str, counts: list[int]) -> None:
    view = {"page": "run", "run": run_id, "panel": "agent", "agent": agent_id}
    origin = url.replace("ws", "http", 1)
    with contextlib.suppress(ConnectionClosed):
        async with connect(f"{url}/live", origin=origin, max_size=None, compression=None) as socket:  # type: ignore[arg-type]
            await socket.send(json.dumps({"n": 1, "view": view, "since": None}))
            while True:
                await socket.recv()
                counts.append(1)
                await asyncio.sleep(FRAME_S)
                await socket.send('{"ack":1}')


async def _all(url: str, run_id: str, agent_id: str, count: str) -> None:
    counts: list[int] = []
    viewers = [asyncio.create_task(_view(url, run_id, agent_id, counts)) for _ in range(int(count))]
    await asyncio.to_thread(sys.stdin.read)
    for viewer in viewers:
        viewer.cancel()
    await asyncio.wait(viewers)
    sys.stdout.write(str(len(counts)))


if __name__ == "__main__":
    asyncio.run(_all(*sys.argv[1:]))
