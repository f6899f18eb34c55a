"""Request validation and error responses of PromptLayer."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AnyHttpUrl, BaseModel, Field, ValidationError

from gateway.json import strict_json
from gateway.sandbox.http_json import JSON, header_equals


class RunWorkflow(BaseModel):
    """Documented schema. Unknown members are ignored (the Python SDK sends `channel_name_suffix`)."""

    workflow_label_name: str | None = None
    workflow_version_number: int | None = None
    metadata: dict[str, str] | None = None
    input_variables: dict[str, Any] = {}
    return_all_outputs: bool = False
    callback_url: AnyHttpUrl | None = None


class ResultsQuery(BaseModel):
    """Query of the results route."""

    workflow_version_execution_id: int
    return_all_outputs: bool = False


class VersionQuery(BaseModel):
    """Version query of the workflow route."""

    version: Annotated[int, Field(gt=0)] | None = None
    label: str | None = None


class PageQuery(BaseModel):
    """Page query of the list; filters and sorting are ignored."""

    page: int = 1
    per_page: int = 30


Model = TypeVar("Model", bound=BaseModel)


def error_body(message: str) -> bytes:
    """Return the documented `ErrorResponse`."""
    return strict_json.write({"success": False, "message": message})


def check_key(request: web.Request, key: str) -> None:
    """Raise 401 unless the request has the key."""
    if not header_equals(request, "X-API-KEY", key):
        raise _error_response(web.HTTPUnauthorized(), error_body("Invalid API key"))


def bad_request(message: str) -> web.HTTPException:
    """Return a 400 error."""
    return _error_response(web.HTTPBadRequest(), error_body(message))


def unprocessable(message: str) -> web.HTTPException:
    """Return a 422 error in the form of `ErrorResponse`."""
    return _error_response(web.HTTPUnprocessableEntity(), error_body(message))


def not_found(what: str) -> web.HTTPException:
    """Return a 404 error."""
    return _error_response(web.HTTPNotFound(), error_body(f"{what} not found"))


def read_body(model: type[Model], body: bytes) -> Model:
    """Validate the body strictly as `model`. Raises 422."""
    if not body:
        raise _validation_error([{"loc": ["body"], "msg": "Field required", "type": "missing"}])
    try:
        return model.model_validate(strict_json.read(body), strict=True)
    except strict_json.NotJson:
        raise _validation_error([{"loc": ["body"], "msg": "JSON decode error", "type": "json_invalid"}]) from None
    except ValidationError as refused:
        raise _validation_error(_error_details("body", refused)) from None


def read_query(model: type[Model], request: web.Request) -> Model:
    """Validate the query as `model`. Raises 422."""
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as refused:
        raise _validation_error(_error_details("query", refused)) from None


def _error_details(location: str, refused: ValidationError) -> list[dict[str, object]]:
    found = refused.errors(include_url=False, include_context=False, include_input=False)
    return [{"loc": [location, *e["loc"]], "msg": e["msg"], "type": e["type"]} for e in found]


def _validation_error(details: list[dict[str, object]]) -> web.HTTPException:
    return _error_response(web.HTTPUnprocessableEntity(), strict_json.write({"detail": details}))


def _error_response(response: web.HTTPException, body: bytes) -> web.HTTPException:
    # A body set as text would add a charset, which the real API does not send.
    response.body = body
    response.headers["Content-Type"] = JSON
    return response
