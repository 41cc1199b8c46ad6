"""Where a request stands, as a device reads it: like `messages.requests.RequestStatus`, with the answer read too."""

from datetime import datetime
from uuid import UUID

import msgspec

from fieldpost.messages.requests import RequestState
from fieldpost.messages.responses import Response


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One request; `response` once `status` is final."""

    id: UUID
    status: RequestState
    model: str
    accepted_at: datetime
    attempts: int = 0
    deadline_at: datetime | None = None
    completed_at: datetime | None = None
    acknowledged_at: datetime | None = None
    response: Response | None = None
