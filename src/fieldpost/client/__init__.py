"""What runs on a device: the public API of the SDK."""

from fieldpost.client.blocking import BlockingStream, Client
from fieldpost.client.client import AsyncClient
from fieldpost.client.stream import Stream

__all__ = ["AsyncClient", "BlockingStream", "Client", "Stream"]
