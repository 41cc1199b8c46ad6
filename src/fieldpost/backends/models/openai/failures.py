"""What a model's server does wrong, as errors of ours.

| what | error | why |
| --- | --- | --- |
| 400, 413, 422 | refused | the request: too long, a parameter that the model does not know, filtered |
| 408, 409, 425, 429, 5xx | unavailable, after `Retry-After` | it passes |
| any other status | unavailable | the operator's: key, name or address. Another attempt is right, for keys are changed and \
models loaded while requests wait; the attempts are few, and the failed request can be replayed |
| no connection, a cut, silence, garbage, an error in the stream | unavailable | it passes |

Devices read these words: what the server says of a key or an address is data of the error, and only logged.
"""

import httpx2
import openai

from fieldpost.backends.models.openai.bounds import UnboundedReplyError
from fieldpost.backends.models.openai.retry_after import retry_after_seconds
from fieldpost.errors import ModelError, ModelRefusedError, ModelUnavailableError

#: Everything that the client lets out; ValueError and RecursionError are its decoder's.
FAILURES = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpx2.StreamError,
    UnboundedReplyError,
    ValueError,
    RecursionError,
)
_REFUSED = frozenset({400, 413, 422})
_PASSING = frozenset({408, 409, 425, 429})
_MAX_WORDS_CHARACTERS = 500

_MISCONFIGURED = {
    401: "the model's server does not accept the key (401); the operator has to set model.key",
    403: "the model's server does not let this key use the model (403); the operator has to set model.key or model.name",
    404: "the model's server knows no such model or address (404); the operator has to set model.name or model.url",
}


def failure(error: Exception) -> ModelError:
    """The error of ours that says the same."""
    match error:
        case openai.APIStatusError():
            return _of_status(error)
        case openai.APITimeoutError() | httpx2.TimeoutException():
            return ModelUnavailableError("the model's server was not reached or fell silent")
        case openai.APIConnectionError() | httpx2.HTTPError():
            cause = type(error.__cause__ or error).__name__
            return ModelUnavailableError(f"the connection to the model's server failed: {cause}")
        case openai.APIError():
            return ModelUnavailableError(f"the model's server broke off: {_cut(error.message)}")
        case UnboundedReplyError():
            return ModelUnavailableError(f"the model's server sent a reply without a bound: {error}")
    return ModelUnavailableError("the model's server sent a reply that cannot be read", error=_cut(repr(error)))


def _of_status(error: openai.APIStatusError) -> ModelError:
    status, words = error.status_code, _words(error)
    if status in _REFUSED:
        return ModelRefusedError(f"the model's server answered {status}: {words}")
    if status in _PASSING or status >= 500:
        headers = error.response.headers
        wait_seconds = retry_after_seconds(headers.get("Retry-After"), date=headers.get("Date"))
        return ModelUnavailableError(f"the model's server answered {status}", retry_after_seconds=wait_seconds)
    other = f"the model's server answered {status}; the operator has to set model.url"
    return ModelUnavailableError(_MISCONFIGURED.get(status, other), server_says=words)


def _words(error: openai.APIStatusError) -> str:
    """What the server says, whichever of the shapes in use it says it in."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return _cut(str(body or "nothing more"))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_WORDS_CHARACTERS else text[:_MAX_WORDS_CHARACTERS] + "…"
