"""Invalid fields are refused with their location and without their value (R69)."""

from __future__ import annotations

import re

import pytest

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.security.sample_requests import run_with_body
from tests.support.raw_client import RawResponse, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

POINTER = re.compile(r"(/([^~/]|~[01])*)*").fullmatch  # RFC 6901, 3
CANARY = "canary-4c1f"


def error_pointers(reply: RawResponse) -> list[str]:
    """Return the error pointers of the response."""
    errors = reply.json["errors"]
    assert isinstance(errors, list)
    found = [error["pointer"] for error in errors if isinstance(error, dict)]
    assert [] == [pointer for pointer in found if not POINTER(str(pointer))]
    return [str(pointer) for pointer in found]


INVALID_DOCUMENTS: dict[str, tuple[JsonValue, list[str]]] = {
    "no workflow": ({}, ["/workflow"]),
    "null for required": ({"workflow": None}, ["/workflow"]),
    "number for text": ({"workflow": 471147114711}, ["/workflow"]),
    "text of nothing": ({"workflow": ""}, ["/workflow"]),
    "array for text": ({"workflow": [CANARY]}, ["/workflow"]),
    "unknown field": ({"workflow": "studio", "inputs": {"a": CANARY}}, ["/inputs"]),
    "field in another case": ({"workflow": "studio", "Input": CANARY}, ["/Input"]),
    "label and version": ({"workflow": "layer", "label": CANARY, "version": 471147114}, [""]),
    "text for a number": ({"workflow": "layer", "version": "471147114711"}, ["/version"]),
    "boolean for a number": ({"workflow": "layer", "version": True}, ["/version"]),
    "1.0 for 1": ({"workflow": "layer", "version": 4711.0}, ["/version"]),
    "version 0": ({"workflow": "layer", "version": 0}, ["/version"]),
    "version -1": ({"workflow": "layer", "version": -471147114711}, ["/version"]),
    "version 2^31": ({"workflow": "layer", "version": 2**31}, ["/version"]),
    "version of 100 digits": ({"workflow": "layer", "version": 10**100}, ["/version"]),
    "label of nothing": ({"workflow": "layer", "label": ""}, ["/label"]),
    "label of 513": ({"workflow": "layer", "label": CANARY * 100}, ["/label"]),
    "number for a label": ({"workflow": "layer", "label": 471147114711}, ["/label"]),
    "array for an object": ({"workflow": "studio", "input": [CANARY]}, ["/input"]),
    "text for an object": ({"workflow": "studio", "input": CANARY}, ["/input"]),
    "null for an object": ({"workflow": "studio", "input": None}, ["/input"]),
    "number for a text inside": ({"workflow": "studio", "metadata": {"a": 471147114711}}, ["/metadata/a"]),
    "object for a text inside": ({"workflow": "studio", "metadata": {"a": {"b": CANARY}}}, ["/metadata/a"]),
    "null for a text inside": ({"workflow": "studio", "metadata": {"a": None}}, ["/metadata/a"]),
    "text for a boolean": ({"workflow": "studio", "return_all_outputs": "true"}, ["/return_all_outputs"]),
    "1 for a boolean": ({"workflow": "studio", "return_all_outputs": 1}, ["/return_all_outputs"]),
    "null for a boolean": ({"workflow": "studio", "return_all_outputs": None}, ["/return_all_outputs"]),
    "no time": ({"workflow": "studio", "timeout": 0}, ["/timeout"]),
    "negative time": ({"workflow": "studio", "timeout": -471147114711}, ["/timeout"]),
    "text for time": ({"workflow": "studio", "timeout": CANARY}, ["/timeout"]),
    "boolean for time": ({"workflow": "studio", "timeout": True}, ["/timeout"]),
    "several": ({"workflow": 1, "input": CANARY, "x": 1}, ["/workflow", "/input", "/x"]),
    "slash and tilde": ({"workflow": "studio", "metadata": {"a/b~c": 1}}, ["/metadata/a~1b~0c"]),
    "array": ([CANARY], [""]),
    "text": (CANARY, [""]),
    "number": (471147114711, [""]),
    "null": (None, [""]),
    "version for Prompt Studio": ({"workflow": "studio", "version": 471147114}, ["/version"]),
    "label for Prompt Studio": ({"workflow": "studio", "label": CANARY}, ["/label"]),
}


@pytest.mark.parametrize("mistake", INVALID_DOCUMENTS)
async def test_invalid_fields_are_a_422_with_their_pointers(harness: GatewayHarness, mistake: str) -> None:
    """R69: a JSON pointer for each error, no value, nothing forwarded."""
    document, expected_pointers = INVALID_DOCUMENTS[mistake]
    reply = await send_request(harness.url, run_with_body(document))
    assert_problem(reply, 422, "invalid_request")
    assert expected_pointers == error_pointers(reply)
    assert ([], None) == (harness.upstream.received, re.search(rf"{CANARY}|47114711", reply.body.decode()))


async def test_many_errors_make_no_long_answer(harness: GatewayHarness) -> None:
    """R69: at most twenty errors; long names are cut to a valid pointer."""
    reply = await send_request(
        harness.url, run_with_body({"workflow": "studio", "metadata": {f"{n}{'~' * 1000}": n for n in range(900)}})
    )
    assert_problem(reply, 422, "invalid_request")
    assert (20, True) == (len(error_pointers(reply)), len(reply.body) < 10_000)
