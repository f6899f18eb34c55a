"""How PromptLayer reads a request and refuses one: its two shapes of errors, and what it takes for a run."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AnyHttpUrl, BaseModel, Field, ValidationError

from gateway import strictjson
from gateway.sandbox.http_json import JSON, header_equals


class RunWorkflow(BaseModel):
    """The page's schema of that name. What it does not name is ignored (the Python SDK sends `channel_name_suffix`)."""

    workflow_label_name: str | None = None
    workflow_version_number: int | None = None
    metadata: dict[str, str] | None = None
    input_variables: dict[str, Any] = {}
    return_all_outputs: bool = False
    callback_url: AnyHttpUrl | None = None


class ResultsQuery(BaseModel):
    """What results are asked for."""

    workflow_version_execution_id: int
    return_all_outputs: bool = False


class VersionQuery(BaseModel):
    """Which version of a workflow is asked for."""

    version: Annotated[int, Field(gt=0)] | None = None
    label: str | None = None


class PageQuery(BaseModel):
    """Which page of the list is asked for; filters and sorting are ignored."""

    page: int = 1
    per_page: int = 30


Model = TypeVar("Model", bound=BaseModel)


def error_body(message: str) -> bytes:
    """The page's `ErrorResponse`."""
    return strictjson.write({"success": False, "message": message})


def check_key(request: web.Request, key: str) -> None:
    """401 unless the request has the key."""
    if not header_equals(request, "X-API-KEY", key):
        raise _error_response(web.HTTPUnauthorized(), error_body("Invalid API key"))


def bad_request(message: str) -> web.HTTPException:
    """400."""
    return _error_response(web.HTTPBadRequest(), error_body(message))


def unprocessable(message: str) -> web.HTTPException:
    """422, in the shape of the other errors."""
    return _error_response(web.HTTPUnprocessableEntity(), error_body(message))


def not_found(what: str) -> web.HTTPException:
    """404."""
    return _error_response(web.HTTPNotFound(), error_body(f"{what} not found"))


def read_body(model: type[Model], body: bytes) -> Model:
    """The body as `model`, types taken strictly; 422."""
    if not body:
        raise _validation_error([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    try:
        return model.model_validate(strictjson.read(body), strict=True)
    except strictjson.NotJson:
        raise _validation_error([{"loc": ["body"], "msg": "JSON decode error", "type": "json_invalid"}]) from None
    except ValidationError as refused:
        raise _validation_error(_error_details("body", refused)) from None


def read_query(model: type[Model], request: web.Request) -> Model:
    """The query as `model`; 422."""
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as refused:
        raise _validation_error(_error_details("query", refused)) from None


def _error_details(location: str, refused: ValidationError) -> list[dict[str, object]]:
    found = refused.errors(include_url=False, include_context=False, include_input=False)
    return [{"loc": [location, *e["loc"]], "msg": e["msg"], "type": e["type"]} for e in found]


def _validation_error(details: list[dict[str, object]]) -> web.HTTPException:
    return _error_response(web.HTTPUnprocessableEntity(), strictjson.write({"detail": details}))


def _error_response(response: web.HTTPException, body: bytes) -> web.HTTPException:
    # Given as text, the body would get a charset, which the real API does not send.
    response.body = body
    response.headers["Content-Type"] = JSON
    return response
