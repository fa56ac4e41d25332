"""Viewers without a browser: each takes a delta a frame, as a page does, and draws charts as long.

`python -m benchmarks.viewers URL RUN AGENT COUNT` runs until its input ends and prints the number of deltas.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

FRAME_S = 1 / 60
DRAW_S = 0.025
"""What a page takes to draw a chart."""


async def _view(url: str, run_id: str, agent_id: str, counts: list[int]) -> None:
    page = f"/runs/{quote(run_id, safe='')}?agent={quote(agent_id, safe='')}"
    origin = url.replace("ws", "http", 1)
    with contextlib.suppress(ConnectionClosed):
        async with connect(f"{url}/live", origin=origin, max_size=None, compression=None) as socket:  # type: ignore[arg-type]
            await socket.send(json.dumps({"url": page}))
            while True:
                delta = json.loads(await socket.recv())
                counts.append(1)
                drew = DRAW_S if any(part["draw"] for part in delta["parts"]) else 0.0
                await asyncio.sleep(FRAME_S + drew)
                await socket.send(json.dumps({"ack": delta["n"], "paint": 10, "drew": 1000 * drew}))


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
