"""Request bodies: read within bounds of size and time, parsed strictly, validated against a model."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TypeVar, cast

from aiohttp import HttpVersion11, web
from pydantic import BaseModel, ValidationError

from gateway.byte_budget import BUDGET_EXHAUSTED, LARGE
from gateway.errors import IdempotencyInFlight
from gateway.http.headers import content_codings, expects_continue, has_transfer_coding
from gateway.http.request import AiohttpRequest, Request
from gateway.json import strict_json
from gateway.problems import FieldError, Problem, invalid_body

ModelT = TypeVar("ModelT", bound=BaseModel)
MAX_MEMBERS = 1000
"""Maximum number of members of an object whose members are validated one by one: each error costs 2 us."""
_MAX_ERRORS = 20
_MESSAGES = {
    "extra_forbidden": "is not a member of this object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
}
"""Messages by the type of an error, in place of those of pydantic that speak of Python."""
_MAX_POINTER_LENGTH = 200
_CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE_HEADERS = (("Connection", "close"),)


async def read_json_body(request: Request, *, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109
    """Read a JSON body of at most `max_bytes` bytes within `timeout` seconds.

    Raises Problem: unsupported_media_type, payload_too_large, request_timeout, malformed_request, and
    client_closed_request if the client disconnects before the end of the body.
    """
    head, body = request.head, request.body
    if head.is_encoded:
        raise _encoded_problem()
    if not head.is_json:
        raise Problem("unsupported_media_type", "Send Content-Type: application/json, encoded in UTF-8.")
    if body is None or len(body) > max_bytes or len(body) >= LARGE:
        return await _read_bounded(request, max_bytes, timeout)
    if request.hold is not None:
        request.hold.add(2 * len(body))
    return body


async def read_raw_body(request: Request, *, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109
    """Read a body of any media type. Bounds and errors as in `read_json_body`."""
    if request.head.is_encoded:
        raise _encoded_problem()
    return await _read_bounded(request, max_bytes, timeout)


async def read_coded_body(
    request: Request,
    *,
    codings: Collection[str],
    max_bytes: int,
    timeout: float,  # noqa: ASYNC109
) -> tuple[bytes, str]:
    """Read a body of any media type as it is, with at most one of `codings`; returns it and its content coding, or "".

    Bounds and errors as in `read_json_body`.
    """
    applied = content_codings(request.headers)
    if len(applied) > 1 or not set(applied) <= set(codings) or has_transfer_coding(request.headers):
        raise Problem("unsupported_media_type", f"Supported content codings: {', '.join(sorted(codings))}.")
    return await _read_bounded(request, max_bytes, timeout), "".join(applied)


async def _read_bounded(request: Request, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109
    if (request.content_length or 0) > max_bytes:
        raise _payload_too_large(max_bytes)
    body = request.body
    if body is None:
        body = await _read_stream(cast("AiohttpRequest", request), max_bytes, timeout)
    else:
        _hold_body(request, len(body))
    if len(body) > max_bytes:
        raise _payload_too_large(max_bytes)
    return body


def hold_stored(request: Request, size: int) -> None:
    """Hold the bytes of a stored result until the response is written. Raises Problem (overloaded) without room for it.

    Nothing is lost: the result stays in the store.
    """
    if request.hold is not None and not request.hold.try_add(size):
        raise Problem("overloaded", BUDGET_EXHAUSTED, retry_after=1)


def hold_replay(request: Request, size: int) -> None:
    """Hold the bytes of a response that an earlier request with the key had, until they are written.

    Raises IdempotencyInFlight without room for them. The run has ended, so the error must not say that nothing was run;
    a repetition with the same key is safe.
    """
    if request.hold is not None and not request.hold.try_add(size):
        raise IdempotencyInFlight("The response is stored; this replica has no room to return it now.", retry_after=1)


def _hold_body(request: Request, size: int) -> None:
    """Hold a part of a body twice, raw and parsed. Raises Problem (overloaded) if there is no room for it."""
    hold = request.hold
    if hold is None:
        return
    if size < LARGE:
        hold.add(2 * size)
    elif not hold.try_add(2 * size):
        raise Problem(
            "overloaded",
            BUDGET_EXHAUSTED,
            retry_after=1,
            headers=_CLOSE_HEADERS,
            extra={"outcome": "not_run"},
        )


def _encoded_problem() -> Problem:
    return Problem("unsupported_media_type", "Compressed request bodies are not supported.")


async def _read_stream(request: AiohttpRequest, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109
    content = request.content
    if not content.is_eof():
        return await _read_chunks(request, max_bytes, timeout)
    body = content.read_nowait()
    _hold_body(request, len(body))
    return body


async def _read_chunks(request: AiohttpRequest, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109
    if request.transport is None:
        raise Problem("client_closed_request")
    chunks, size = [], 0
    # Without a known client only what arrives is held: else it could occupy the budget by header fields alone.
    announced = request.content_length or 0 if request.client_name else 0
    _hold_body(request, announced)
    try:
        async with asyncio.timeout(timeout):
            if request.version == HttpVersion11 and expects_continue(request.headers):
                await request.writer.write(_CONTINUE_RESPONSE)
                request.writer.output_size = 0
            while size <= max_bytes and (chunk := await request.content.readany()):
                size += len(chunk)
                chunks.append(chunk)
                if not announced:
                    _hold_body(request, len(chunk))
    except TimeoutError:
        detail = f"The request body was not received within {timeout:g} s."
        raise Problem("request_timeout", detail, headers=_CLOSE_HEADERS) from None
    except web.RequestPayloadError:
        raise Problem("malformed_request", "Invalid message framing.", headers=_CLOSE_HEADERS) from None
    except ConnectionError:
        raise Problem("client_closed_request") from None
    return b"".join(chunks)


def _payload_too_large(max_bytes: int) -> Problem:
    return Problem("payload_too_large", f"The request body exceeds {max_bytes} bytes.", headers=_CLOSE_HEADERS)


def parse_json_body(model: type[ModelT], body: bytes) -> ModelT:
    """Parse and validate a body.

    Raises Problem: malformed_json, or invalid_request with one JSON pointer for each error and no input value.
    """
    try:
        value = strict_json.read_unique(body)
    except strict_json.NotJson as error:
        raise Problem("malformed_json", f"The request body is {error}.") from None
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise invalid_body(FieldError("", f"more than {MAX_MEMBERS} members"))
    try:
        parsed: ModelT = model.__pydantic_validator__.validate_python(value)  # as `model_validate`, one call less
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
        field_errors = (FieldError(_json_pointer(e["loc"]), _MESSAGES.get(e["type"], e["msg"])) for e in details)
        raise invalid_body(*field_errors, count=error.error_count()) from None
    return parsed


def _json_pointer(location: tuple[int | str, ...]) -> str:
    segments = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    pointer = "".join(f"/{segment}" for segment in segments)[:_MAX_POINTER_LENGTH]
    return pointer.removesuffix("~")  # the cut may split an escape
