"""The OpenAPI 3.1 document, made from the operations that are served and the types of their bodies.

Source: OpenAPI 3.1.0; its schemas are JSON Schema 2020-12, as msgspec makes them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from fieldpost.messages.responses import Problem
from fieldpost.web.operations import Caller, Operation

_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_SCHEMES = {
    Caller.DEVICE: ("deviceKey", "fp_<device id>_<secret>"),
    Caller.OPERATOR: ("operatorKey", "fpa_<name>_<secret>"),
}
_KEY_PROBLEMS = {Caller.DEVICE: {401, 403, 429}, Caller.OPERATOR: {401}, Caller.ANYONE: set[int]()}
_BODY_PROBLEMS = {400, 413, 415, 422, 503}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
#: What is not JSON; of a stream of events the schema says what each one is.
_TEXTS: Mapping[str, Any] = {
    "text/plain": {"type": "string"},
    "text/event-stream": {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    },
}
_CONVERTER = re.compile(r"\{(\w+):\w+\}")

Document = dict[str, Any]


class OpenAIFault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, in OpenAI's words."""

    message: str
    type: str
    code: str
    param: str | None


class OpenAIError(msgspec.Struct, frozen=True, kw_only=True):
    """An error as OpenAI's clients read it."""

    error: OpenAIFault


def document(operations: Iterable[Operation]) -> Document:
    """The whole document."""
    documented = [operation for operation in operations if operation.is_documented]
    schemas = _schemas(documented)
    for operation in documented:
        for name, patch in operation.refinements.items():
            _merge(schemas[name], patch)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fieldpost",
            "version": version("fieldpost"),
            "description": "The post office between devices in the field and AI workers.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(documented),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "bearerFormat": form} for name, form in _SCHEMES.values()
            },
        },
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    types: list[Any] = [Problem, OpenAIError]
    for operation in operations:
        types += [operation.body, *(kind for _, kind, _ in operation.answers.values())]
    named = [kind for kind in dict.fromkeys(types) if kind is not None]
    return msgspec.json.schema_components(named, ref_template=_REF)[1]


def _paths(operations: Sequence[Operation]) -> Document:
    paths: Document = {}
    for operation in operations:
        path = _CONVERTER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Document:
    described: Document = {
        "operationId": operation.handler.__name__.strip("_") + "_" + re.sub(r"\W+", "_", operation.path).strip("_"),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": parameter.schema,
            }
            for parameter in operation.parameters
        ],
        "responses": _answers(operation),
    }
    if operation.caller is not Caller.ANYONE:
        described["security"] = [{_SCHEMES[operation.caller][0]: []}]
    if operation.body is not None:
        content: Document = {"schema": _ref(operation.body)}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {_JSON: content}}
    return described


def _answers(operation: Operation) -> Document:
    answers: Document = {}
    for status, (description, kind, content_type) in operation.answers.items():
        answers[str(status)] = {"description": description}
        for one_type in filter(None, content_type.split(",")):
            schema = _ref(kind) if kind is not None and one_type == _JSON else _TEXTS[one_type]
            answers[str(status)].setdefault("content", {})[one_type] = {"schema": schema}
    for status in sorted(_problem_statuses(operation)):
        answers[str(status)] = _problem_answer(operation, status)
    return answers


def _problem_statuses(operation: Operation) -> set[int]:
    body_problems = _BODY_PROBLEMS if operation.body is not None else set()
    declared = {*operation.problems, *_KEY_PROBLEMS[operation.caller], *body_problems, 500, 503}
    return declared - set(operation.answers)


def _problem_answer(operation: Operation, status: int) -> Document:
    kind, content_type = (OpenAIError, _JSON) if operation.openai_errors else (Problem, "application/problem+json")
    answer: Document = {
        "description": HTTPStatus(status).phrase,
        "content": {content_type: {"schema": _ref(kind)}},
    }
    if status in (429, 503, 504, 507):
        answer["headers"] = _RETRY_AFTER
    return answer


def _ref(kind: Any) -> Document:
    return {"$ref": _REF.format(name=kind.__name__)}


def _merge(target: Document, patch: Mapping[str, Any]) -> None:
    """Merges as RFC 7396 does."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value
