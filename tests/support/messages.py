"""Messages that tests need, with only what matters spelled out."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from fieldpost.messages.identity import body_hash
from fieldpost.messages.requests import Channel, Input, Priority, Request, RequestState
from fieldpost.messages.responses import Output, Response

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after the beginning of time."""
    return START + timedelta(seconds=seconds)


def a_request(
    *,
    id: UUID | None = None,  # noqa: A002
    device_id: int = 1,
    prompt: str = "How long may I drive?",
    model: str = "library",
    priority: Priority = Priority.NORMAL,
    channel: Channel = Channel.HTTP,
    accepted_at: datetime = START,
    deadline_at: datetime | None = None,
    file_name: str | None = None,
) -> Request:
    return Request(
        id=id or uuid4(),
        device_id=device_id,
        channel=channel,
        model=model,
        priority=priority,
        input=Input(prompt=prompt),
        accepted_at=accepted_at,
        body_hash=body_hash(prompt.encode()),
        deadline_at=deadline_at,
        file_name=file_name,
    )


def a_response(request: Request, *, attempts: int = 1, text: str = "Nine hours.", seconds: float = 10) -> Response:
    return Response(
        request_id=request.id,
        status=RequestState.SUCCEEDED,
        model=request.model,
        attempts=attempts,
        accepted_at=request.accepted_at,
        completed_at=at(seconds),
        output=Output(text=text),
        file_name=request.file_name,
    )
