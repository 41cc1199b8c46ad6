import msgspec
import pytest

from fieldpost import errors
from fieldpost.messages.responses import Problem
from fieldpost.web.problems import STATUS, error_reply, openai_error_reply, problem_of


def _classes(cls: type[errors.FieldpostError]) -> list[type[errors.FieldpostError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in _classes(child))]


@pytest.mark.parametrize("cls", _classes(errors.FieldpostError))
def test_every_error_has_a_problem_document(cls: type[errors.FieldpostError]) -> None:
    document = problem_of(cls("what happened"))

    assert document.type.startswith("urn:fieldpost:problem:")
    assert document.status in STATUS.values()
    assert document.detail == "what happened"
    assert document.title


def test_an_error_that_is_not_ours_says_nothing_of_itself() -> None:
    document = problem_of(ValueError("the secret"))

    assert document.status == 500
    assert "secret" not in msgspec.json.encode(document).decode()


def test_waiting_is_told_in_whole_seconds() -> None:
    reply = error_reply(errors.QueueFullError(retry_after_seconds=1.2))

    assert reply.status == 503
    assert (b"retry-after", b"2") in reply.headers


def test_a_wrong_key_is_told_which_scheme_is_meant() -> None:
    reply = error_reply(errors.UnauthenticatedError())

    assert reply.status == 401
    assert dict(reply.headers)[b"www-authenticate"].startswith(b"Bearer")


def test_an_unknown_model_is_not_found_for_openai_and_invalid_for_others() -> None:
    error = errors.UnknownModelError("'x'", errors=("model",))

    ours, theirs = error_reply(error), openai_error_reply(error)

    assert ours.status == 422
    assert msgspec.json.decode(ours.body, type=Problem).errors == ("model",)
    assert theirs.status == 404
    told = msgspec.json.decode(theirs.body)["error"]
    assert (told["code"], told["message"]) == ("model_not_found", "There is no model of this name: 'x'")


def test_an_error_says_what_went_wrong_once_and_in_full() -> None:
    assert str(errors.NotFoundError("device 17")) == "There is nothing of this name here: device 17"
    assert str(errors.DeviceDisabledError()) == "This device is disabled."
