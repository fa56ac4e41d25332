"""The floor: the time of one message through Kafka, Redis and a WebSocket to a painted label.

`python -m benchmarks.floor KAFKA REDIS TOPIC PORT` serves the page without any code of the product.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import redis
import redis.asyncio
import uvicorn
from confluent_kafka import Consumer
from fastapi import FastAPI, WebSocket
from starlette.responses import HTMLResponse
from starlette.websockets import WebSocketDisconnect

STREAM = "floor"
PAGE = """<!doctype html><title>floor</title><b id="label">-</b><script>
window.painted = [];
const socket = new WebSocket(location.origin.replace("http", "ws") + "/live");
socket.onmessage = ({ data }) => {
  document.getElementById("label").textContent = data;
  requestAnimationFrame(() => setTimeout(() => {
    window.painted.push([Number(data), performance.timeOrigin + performance.now()]);
    socket.send("1");
  }, 0));
};
</script>"""


def pump(bootstrap: str, url: str, topic: str) -> None:
    """Copy each message from Kafka to Redis."""
    client = redis.Redis.from_url(url)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "latest"})
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            client.xadd(STREAM, {"v": message.value()}, maxlen=1000)


def application(url: str) -> FastAPI:
    """Return the app that serves the page and sends it each message from Redis."""
    app, database = FastAPI(), redis.asyncio.Redis.from_url(url)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        since = "$"
        try:
            while True:
                if found := await database.xread({STREAM: since}, block=1000):
                    since, fields = found[0][1][-1]
                    await socket.send_text(fields[b"v"].decode())
                    await socket.receive_text()
        except (WebSocketDisconnect, asyncio.CancelledError):
            pass

    return app


if __name__ == "__main__":
    kafka_address, redis_url, topic_name, port = sys.argv[1:]
    threading.Thread(target=pump, args=(kafka_address, redis_url, topic_name), daemon=True).start()
    uvicorn.run(application(redis_url), port=int(port), log_level="warning")
