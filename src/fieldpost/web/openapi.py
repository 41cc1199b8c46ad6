"""The OpenAPI 3.1 document, made from the same operations as the routes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from fieldpost.messages.responses import Problem
from fieldpost.web.operations import Caller, Operation

_PROBLEM_TITLES = {
    400: "The request cannot be read",
    401: "A valid key is needed",
    403: "This key may not do that",
    404: "There is nothing of this name",
    405: "This method is not possible here",
    406: "None of the types asked for can be sent",
    409: "This contradicts what is already there",
    413: "The body is larger than 1 MiB",
    415: "The body is not JSON",
    422: "The request asks for something that is not possible",
    500: "Something went wrong; the outcome is unknown",
    502: "The model broke off",
    503: "Not possible right now",
    504: "Not confirmed in time; the outcome is unknown",
    507: "The disk is full",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to authenticate"}},
    503: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait"}},
    504: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait"}},
    507: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds to wait"}},
}
#: What OpenAI's clients expect of an error.
_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}


def document(operations: Sequence[Operation], *, version: str) -> dict[str, Any]:
    """The whole document, ready to be encoded."""
    types = [operation.body for operation in operations if operation.body is not None]
    types += [answer[1] for operation in operations for answer in operation.answers.values() if answer[1] is not None]
    unique = list(dict.fromkeys([*types, Problem]))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fieldpost",
            "version": version,
            "description": "The post office between devices in the field and AI workers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "device": {"type": "http", "scheme": "bearer", "description": "fp_<device id>_<secret>"},
                "operator": {"type": "http", "scheme": "bearer", "description": "fpa_<name>_<secret>"},
            },
        },
    }


def _operation(operation: Operation, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation, by_type),
    }
    if operation.caller is not Caller.ANYONE:
        described["security"] = [{operation.caller.value: []}]
    if operation.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": dict(parameter.schema),
            }
            for parameter in operation.parameters
        ]
    if operation.body is not None:
        content = {"application/json": {"schema": by_type[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, (description, answer_type, content_type) in operation.answers.items():
        responses[str(status)] = {"description": description}
        if content_type:
            schema = by_type[answer_type] if answer_type is not None else {"type": "string"}
            responses[str(status)]["content"] = {content_type: {"schema": schema}}
    for status in sorted(_problem_statuses(operation)):
        if operation.openai_errors:
            content: dict[str, Any] = {"application/json": {"schema": _OPENAI_ERROR}}
        else:
            content = {"application/problem+json": {"schema": by_type[Problem]}}
        responses[str(status)] = {"description": _PROBLEM_TITLES[status], "content": content}
        if status in _HEADERS:
            responses[str(status)]["headers"] = _HEADERS[status]
    return responses


def _problem_statuses(operation: Operation) -> set[int]:
    statuses = set(operation.problems)
    if operation.caller is not Caller.ANYONE:
        statuses |= {401, 500}
    if operation.caller is Caller.DEVICE:
        statuses.add(403)
    if operation.body is not None:
        statuses |= {400, 413, 415, 422}
    return statuses


def _operation_id(operation: Operation) -> str:
    words = [word.strip("{}") for word in operation.path.split("/") if word]
    return "_".join([operation.method.lower(), *words]).replace("-", "_")
