"""What goes over the wire: bodies read within bounds, models that check them, answers rendered."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from gateway import strictjson
from gateway.http.response import SingleWriteResponse
from gateway.http.server import Request
from gateway.problems import CONTENT_TYPE, FieldError, Problem
from gateway.runs import rendering
from gateway.runs.model import RunRecord

ModelT = TypeVar("ModelT", bound=BaseModel)
_MAX_ERRORS = 20
MAX_MEMBERS = 1000
"""Of an object whose members are checked one by one: each error costs 2 us."""
_MAX_POINTER_LENGTH = 200
_CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE_HEADERS = (("Connection", "close"),)
_LABEL_AND_VERSION: JsonDict = {
    "required": ["label", "version"],
    "properties": {"label": {"type": "string"}, "version": {"type": "integer"}},
}


def _limit_members(value: object) -> object:
    """Count before the members are looked at: pydantic itself does so afterwards."""
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise PydanticCustomError("too_long", "more than {most} members", {"most": MAX_MEMBERS})
    return value


Metadata: TypeAlias = Annotated[dict[str, str], Field(max_length=MAX_MEMBERS), BeforeValidator(_limit_members)]
"""Texts by name, not too many of them."""


class RunRequest(BaseModel):
    """The body of `POST /run`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        title="RunRequest",
        json_schema_extra={"not": _LABEL_AND_VERSION},  # what `_one_of_label_and_version` checks
    )

    workflow: Annotated[
        str, Field(min_length=1, max_length=512, description="An alias of the configuration, or `provider/name`.")
    ]
    input: Annotated[dict[str, Any], Field(description="What the workflow is given.")] = {}
    metadata: Annotated[Metadata, Field(description="Kept on the run; PromptLayer stores it too.")] = {}
    label: Annotated[str | None, Field(min_length=1, max_length=512, description="A release label.")] = None
    version: Annotated[int | None, Field(ge=1, lt=2**31, description="A version; excludes `label`.")] = None
    return_all_outputs: Annotated[bool, Field(description="Answer with every node's output too.")] = False
    timeout: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="Seconds for everything; clamped to the workflow's maximum."),
    ] = None
    callback_url: Annotated[str | None, Field(max_length=2048, description="Deliver the result here.")] = None

    @model_validator(mode="after")
    def _one_of_label_and_version(self) -> RunRequest:
        if self.label is not None and self.version is not None:
            raise PydanticCustomError("exclusive", "label and version exclude each other")
        return self


async def read_json_body(request: Request, *, max_bytes: int, timeout: float) -> bytes:
    """Read a JSON body of at most `limit` bytes within `seconds`.

    Raises Problem: unsupported_media_type, payload_too_large, request_timeout, malformed_request; and
    client_closed_request where the client leaves before it has sent all.
    """
    _reject_compressed(request)
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "Send Content-Type: application/json.")
    return await read_raw_body(request, max_bytes=max_bytes, timeout=timeout)


async def read_raw_body(request: Request, *, max_bytes: int, timeout: float) -> bytes:
    """Read a body of any type, likewise."""
    _reject_compressed(request)
    if (request.content_length or 0) > max_bytes:
        raise _payload_too_large(max_bytes)
    content = request.content
    if content.is_eof():  # it came with the headers, as nearly always
        body = content.read_nowait()
    else:
        body = await _read_chunks(request, max_bytes, timeout)
    if len(body) > max_bytes:
        raise _payload_too_large(max_bytes)
    return body


def _reject_compressed(request: Request) -> None:
    headers = request.headers
    if "Content-Encoding" in headers or headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Problem("unsupported_media_type", "Compressed request bodies are not supported.")


async def _read_chunks(request: Request, max_bytes: int, timeout: float) -> bytes:
    chunks, size = [], 0
    try:
        async with asyncio.timeout(timeout):
            if request.version == HttpVersion11 and expects_continue(request.headers):
                await request.writer.write(_CONTINUE_RESPONSE)
                request.writer.output_size = 0
            while size <= max_bytes and (chunk := await request.content.readany()):
                size += len(chunk)
                chunks.append(chunk)
    except TimeoutError:
        detail = f"The request body was not received within {timeout:g} s."
        raise Problem("request_timeout", detail, headers=_CLOSE_HEADERS) from None
    except web.RequestPayloadError:
        raise Problem("malformed_request", "Invalid message framing.", headers=_CLOSE_HEADERS) from None
    except ConnectionError:
        raise Problem("client_closed_request") from None
    return b"".join(chunks)


def expects_continue(headers: Mapping[str, str]) -> bool:
    """Whether the client waits for a word before it sends its body (RFC 9110, 10.1.1)."""
    return headers.get("Expect", "").lower() == "100-continue"


def _payload_too_large(max_bytes: int) -> Problem:
    return Problem("payload_too_large", f"The request body exceeds {max_bytes} bytes.", headers=_CLOSE_HEADERS)


def parse_json_body(model: type[ModelT], body: bytes) -> ModelT:
    """Check a body against a model.

    Raises Problem: malformed_json, or invalid_request with a JSON pointer for each error and no value.
    """
    try:
        value = strictjson.read_unique(body)
    except strictjson.NotJson as error:
        raise Problem("malformed_json", f"The request body is {error}.") from None
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise Problem("invalid_request", errors=(FieldError("", f"more than {MAX_MEMBERS} members"),))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
        pointers = tuple(FieldError(_json_pointer(e["loc"]), e["msg"]) for e in details)
        raise Problem("invalid_request", f"{error.error_count()} thing(s) are wrong.", errors=pointers) from None


def _json_pointer(location: tuple[int | str, ...]) -> str:
    segments = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in segments)[:_MAX_POINTER_LENGTH].removesuffix(
        "~"
    )  # it may be half of an escape


def run_response(run: RunRecord) -> web.Response:
    """Render a run that succeeded."""
    return make_response(
        200, strictjson.write(rendering.run_document(run)), rendering.JSON_CONTENT_TYPE, run.limit_headers
    )


def problem_response(problem: Problem, request: Request) -> web.Response:
    """Render a problem, with the headers that go with it."""
    return make_response(problem.status, problem.document(request.request_id), CONTENT_TYPE, problem_headers(problem))


def problem_headers(problem: Problem) -> tuple[tuple[str, str], ...]:
    """The headers that go with a problem, whatever its body looks like."""
    if problem.retry_after is None:
        return problem.headers
    return (*problem.headers, ("Retry-After", str(math.ceil(problem.retry_after))))


def make_response(
    status: int, body: bytes, content_type: str, headers: tuple[tuple[str, str], ...] = ()
) -> SingleWriteResponse:
    """Make an answer; it names no version of anything."""
    fields = CIMultiDict(headers)
    fields["Content-Type"] = content_type
    fields["Server"] = "runward"
    return SingleWriteResponse(body=body, status=status, headers=fields)
