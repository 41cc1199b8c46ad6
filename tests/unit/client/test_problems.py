"""What the server's error replies become in a client."""

import msgspec
import pytest

from fieldpost import errors
from fieldpost.client.problems import error_of, raise_for
from fieldpost.messages.problems import problem
from fieldpost.web.problems import STATUS, error_reply, problem_of


def _classes(cls: type[errors.FieldpostError]) -> list[type[errors.FieldpostError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _classes(child))]


def _raised(status: int, retry_after: str | None, content: bytes) -> errors.FieldpostError:
    with pytest.raises(errors.FieldpostError) as caught:
        raise_for(status, retry_after, content)
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_no_error(status: int) -> None:
    raise_for(status, None, b"anything")


@pytest.mark.parametrize("cls", _classes(errors.FieldpostError))
def test_every_error_of_the_server_comes_out_as_itself(cls: type[errors.FieldpostError]) -> None:
    reply = error_reply(cls("what happened"))

    error = _raised(reply.status, dict(reply.headers).get(b"retry-after", b"").decode(), reply.body)

    assert cls is type(error)
    assert "what happened" == error.detail


def test_what_is_wrong_with_a_body_is_named() -> None:
    reply = error_reply(errors.InvalidRequestError("no model", errors=("model",)))

    assert ("model",) == _raised(reply.status, None, reply.body).data["errors"]


def test_a_problem_without_detail_is_told_once() -> None:
    reply = error_reply(errors.DeviceDisabledError())

    error = _raised(reply.status, None, reply.body)

    assert "" == error.detail
    assert "This device is disabled." == str(error)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), (None, 1.0), ("soon", 1.0), ("-3", 1.0), ("²", 1.0)]
)
def test_waiting_is_read_in_whole_seconds_and_else_left_alone(header: str | None, seconds: float) -> None:
    error = _raised(503, header, error_reply(errors.QueueFullError()).body)

    assert isinstance(error, errors.QueueFullError)
    assert seconds == error.retry_after_seconds


def test_an_inner_error_leaves_the_outcome_unknown_and_may_be_tried_again() -> None:
    error = _raised(500, None, msgspec.json.encode(problem_of(ValueError("the secret"))))

    assert isinstance(error, errors.OutcomeUnknownError)
    assert error.retryable


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (301, errors.FieldpostError),
        (400, errors.MalformedRequestError),
        (401, errors.UnauthenticatedError),
        (404, errors.NotFoundError),
        (418, errors.RejectedError),
        (429, errors.OverloadedError),
        (500, errors.OutcomeUnknownError),
        (502, errors.OutcomeUnknownError),
        (503, errors.UnavailableError),
        (504, errors.OutcomeUnknownError),
        (507, errors.StorageFullError),
    ],
)
@pytest.mark.parametrize("content", [b"<html>Bad  gateway</html>", b"", b"\xff\xfe", b'{"type": 1}', b"[]"])
def test_a_reply_of_something_else_goes_by_its_status(
    status: int, cls: type[errors.FieldpostError], content: bytes
) -> None:
    error = _raised(status, None, content)

    assert cls is type(error)
    assert error.detail.startswith(f"HTTP {status}")


@pytest.mark.parametrize("status", sorted(set(STATUS.values())))
def test_a_problem_of_a_later_version_goes_by_its_status_too(status: int) -> None:
    later = problem("invented-later", "Something new.", status, detail="in detail")

    error = _raised(status, None, msgspec.json.encode(later))

    assert "in detail" == error.detail
    assert error.retryable == (status in (429, 500, 503, 504, 507))


def test_a_problem_in_a_frame_is_read_alike() -> None:
    error = error_of(problem_of(errors.QueueFullError("full")), retry_after_seconds=2.5)

    assert isinstance(error, errors.QueueFullError)
    assert 3.0 == error.retry_after_seconds
