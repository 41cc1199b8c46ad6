"""`/v1/responses`: the long poll, for devices that can hold a call open but no connection."""

from collections.abc import Sequence

import msgspec

from fieldpost.messages.responses import Response
from fieldpost.services.answers import Answers
from fieldpost.settings import ServerSettings
from fieldpost.web.operations import Call, Caller, Operation, Parameter, Reply

_DEFAULT_LIMIT = 20
#: OpenAI's clients post to this path.
_NOT_OPENAIS = (
    "this is the long poll for answers, not OpenAI's Responses API; use chat completions: POST /v1/chat/completions"
)


class ResponsePage(msgspec.Struct, frozen=True, kw_only=True):
    """Answers not acknowledged, oldest completion first."""

    responses: Sequence[Response]


class ResponseOperations:
    """The long poll."""

    def __init__(self, *, settings: ServerSettings, answers: Answers) -> None:
        self._max_wait_seconds = int(settings.max_wait_seconds)
        self._answers = answers

    def operations(self) -> list[Operation]:
        """The one there is."""
        return [
            Operation(
                method="GET",
                path="/v1/responses",
                summary="Waits for answers that are not acknowledged",
                handler=self._poll,
                caller=Caller.DEVICE,
                parameters=[
                    Parameter(
                        name="wait",
                        schema={"type": "integer", "minimum": 0, "maximum": self._max_wait_seconds, "default": 0},
                        description="Seconds to wait when there is none",
                    ),
                    Parameter(
                        name="limit",
                        schema={"type": "integer", "minimum": 1, "maximum": 100, "default": _DEFAULT_LIMIT},
                        description="Answers at once",
                    ),
                ],
                answers={200: ("The answers there are", ResponsePage, "application/json")},
                problems=(422, 503),
                waits=True,
                tag="responses",
                other_methods=_NOT_OPENAIS,
            )
        ]

    async def _poll(self, call: Call) -> Reply:
        wait_seconds = call.number("wait", default=0, lowest=0, highest=self._max_wait_seconds)
        limit = call.number("limit", default=_DEFAULT_LIMIT, lowest=1, highest=100)
        responses = await self._answers.wait_undelivered(
            call.device.device_id, timeout_seconds=wait_seconds, limit=limit
        )
        return Reply(body=b'{"responses":[' + b",".join(response.body for response in responses) + b"]}")
