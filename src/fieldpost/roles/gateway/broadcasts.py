"""`/admin/broadcasts`: what operators tell the devices that are connected."""

import msgspec

from fieldpost.messages.broadcasts import BroadcastSent, NewBroadcast
from fieldpost.services.broadcasting import Broadcasting
from fieldpost.web.operations import Call, Caller, Operation, Reply


class BroadcastOperations:
    """The operation and its handler."""

    def __init__(self, broadcasting: Broadcasting) -> None:
        self._broadcasting = broadcasting

    def operations(self) -> list[Operation]:
        """The one there is."""
        return [
            Operation(
                method="POST",
                path="/admin/broadcasts",
                summary="Tells all connected devices, those of a kind, or those of a list something, at most once",
                handler=self._send,
                caller=Caller.OPERATOR,
                body=NewBroadcast,
                example={"text": "Depot 3 is closed today.", "kind": "truck"},
                answers={202: ("On its way to those connected now", BroadcastSent, "application/json")},
                tag="operators",
            )
        ]

    async def _send(self, call: Call) -> Reply:
        broadcast_id = await self._broadcasting.send(call.body)
        return Reply(status=202, body=msgspec.json.encode(BroadcastSent(id=broadcast_id)))
