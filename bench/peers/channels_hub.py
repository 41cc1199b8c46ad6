"""Django Channels under uvicorn, with its layer in memory: `python -m bench.peers.channels_hub PORT`."""

import sys
from collections.abc import Mapping
from typing import Any

import django  # type: ignore[import-not-found]
import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-not-found]

from bench.measuring import NEWS

_ALL = "all"


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One connection; greets, echoes, and sends the news to its group, which all are in."""

    groups = (_ALL,)

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data="hello")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        if text_data == "news":
            await self.channel_layer.group_send(_ALL, {"type": "news", "text": NEWS})
        else:
            await self.send(text_data=text_data)

    async def news(self, event: Mapping[str, Any]) -> None:
        await self.send(text_data=event["text"])


if __name__ == "__main__":
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    django.setup()
    uvicorn.run(
        Consumer.as_asgi(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )
