"""Operations of the operations port, as each group of them declares its own, and their OpenAPI Operation Objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from gateway.api.openapi.component_schemas import model_content
from gateway.api.openapi.operation import operation
from gateway.api.openapi.responses import OpenApiNode, json_content, problem_responses, response

_COMMON_CODES = ("malformed_request", "header_too_large", "internal")
_KEY_CODES = ("unauthorized", "too_many_failures")
_SECURITY: tuple[dict[str, list[str]], ...] = ({"bearer": []}, {"key": []}, {"session": []})

IGNORED_BODY: OpenApiNode = {
    "required": False,
    "description": "Ignored, and may be empty. Its `Content-Type` is required.",
    "content": json_content({}),
}
"""Request Body Object of a POST that `refuse_cross_site` protects and that has nothing to say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is no problem document.

    `body`: the model of a JSON body, or the Content by media type; empty without a body. `also`: further Content of
    other media types. `headers`: names beside X-Request-Id.
    """

    description: str
    body: type[BaseModel] | OpenApiNode = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    also: OpenApiNode = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """A route of the port. `path`: as in its `Route`, whose `{path}` may have another name. `name`: its `operationId`.

    `answers`: by status. `body`: the model of the request's JSON body, or a Request Body Object. `codes`: error codes
    beside those of every operation, at other statuses than `answers`. `requires_key`: as `OpsAuthenticator` decides.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    name: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[OpenApiNode, ...] = ()
    body: type[BaseModel] | OpenApiNode | None = None
    codes: tuple[str, ...] = ()
    requires_key: bool = True

    @property
    def request_models(self) -> set[type[BaseModel]]:
        """Models of its body."""
        return {self.body} if isinstance(self.body, type) else set()

    @property
    def response_models(self) -> set[type[BaseModel]]:
        """Models of the bodies of its answers."""
        return {answer.body for answer in self.answers.values() if isinstance(answer.body, type)}

    def node(self, tag: str) -> OpenApiNode:
        """Operation Object. Raises ValueError if a problem has the status of an answer."""
        answers = {str(status): _response(answer) for status, answer in self.answers.items()}
        keys = _KEY_CODES if self.requires_key else ()
        problems = problem_responses((*_COMMON_CODES, *keys, *self.codes))
        if answers.keys() & problems.keys():
            raise ValueError(f"{self.name}: a problem has the status of an answer")
        if isinstance(self.body, type):
            request: OpenApiNode | None = {"required": True, "content": model_content(self.body.__name__)}
        else:
            request = self.body
        return {
            **operation(self.name, tag, self.summary, *self.parameters),
            **({"description": self.description} if self.description else {}),
            "security": _SECURITY if self.requires_key else (),
            **({"requestBody": request} if request else {}),
            "responses": answers | problems,
        }


@dataclass(frozen=True, slots=True)
class OperationGroup:
    """Operations with one tag."""

    tag: str
    description: str
    operations: tuple[Operation, ...]


def path_parameter(name: str, description: str, schema: OpenApiNode | None = None) -> OpenApiNode:
    """Return a parameter of the path: by default any text, percent-encoded."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": schema or {"type": "string"},
        "description": description,
    }


def _response(answer: Answer) -> OpenApiNode:
    content = model_content(answer.body.__name__) if isinstance(answer.body, type) else answer.body
    return response(answer.description, {**content, **answer.also}, *answer.headers)
