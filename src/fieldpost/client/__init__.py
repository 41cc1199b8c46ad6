"""What runs on a device: the public API of the SDK."""

from fieldpost.client.blocking import BlockingStream, Client
from fieldpost.client.client import AsyncClient
from fieldpost.client.stream import Stream
from fieldpost.messages.frames import BroadcastFrame as Broadcast
from fieldpost.messages.frames import ResponseChunkFrame as Chunk

__all__ = ["AsyncClient", "BlockingStream", "Broadcast", "Chunk", "Client", "Stream"]
