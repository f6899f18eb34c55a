"""Bodies: read within bounds of size and time, validated strictly, and never quoted in problems."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest
from aiohttp import HttpVersion10, StreamReader
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from pydantic import JsonValue

from gateway.api.run_request import RunRequest
from gateway.byte_budget import LARGE, ByteBudget, Hold
from gateway.http.body import parse_json_body, read_raw_body
from gateway.http.request import Request, RequestHead
from gateway.http.response import make_response, problem_response
from gateway.http.router import UNKNOWN_ROUTE
from gateway.problems import FieldError, Problem
from tests.http.server_harness import (
    KEY,
    MAX_BODY,
    ServerHarness,
    build_request,
    build_run_request,
    parse_responses,
    running_server,
)
from tests.support.waiting import wait_until

FULL_REQUEST = {
    "workflow": "w",
    "input": {"q": ["CANARY", 2**70, None]},
    "metadata": {"a": "b"},
    "tags": ["team:checkout", "a/b_c-d.E9", "x" * 64],
    "label": "production",
    "return_all_outputs": True,
    "timeout": 1.5,
    "start_before": 30.0,
    "callback_url": "https://hooks.example/x",
}


def rejection(body: object) -> Problem:
    """Return the problem of a refused body; bytes are sent unchanged."""
    with pytest.raises(Problem) as caught:
        parse_json_body(RunRequest, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.__cause__ is None
    assert b"CANARY" not in caught.value.document("")
    return caught.value


def error_pointers(body: object) -> list[str]:
    """Return the JSON pointers of the errors."""
    problem = rejection(body)
    assert "invalid_request" == problem.code
    return [error.pointer for error in problem.errors]


def test_a_request_with_every_field_is_parsed_unchanged() -> None:
    """Including every digit of numbers."""
    read = parse_json_body(RunRequest, json.dumps(FULL_REQUEST).encode())
    assert {**FULL_REQUEST, "version": None} == json.loads(read.model_dump_json())
    assert ("team:checkout", "a/b_c-d.E9", "x" * 64) == read.tags


def test_only_the_workflow_is_needed() -> None:
    read = parse_json_body(RunRequest, b'{"workflow": "w"}')
    assert (({}, {}), (None, None), (False, None)) == (
        (read.input, read.metadata),
        (read.label, read.version),
        (read.return_all_outputs, read.timeout),
    )


def test_requests_share_no_defaults() -> None:
    """Mutable defaults must not be shared between requests."""
    parse_json_body(RunRequest, b'{"workflow": "w"}').input["CANARY"] = 1
    assert {} == parse_json_body(RunRequest, b'{"workflow": "w"}').input


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b'{"workflow": NaN}',
        b'{"workflow": "w", "timeout": Infinity}',
        b'{"workflow": "w", "timeout": 1e999}',
        b'{"workflow": "a", "workflow": "b"}',
        b'{"workflow": "w", "input": {"a": 1, "a": 2}}',
        b'\xef\xbb\xbf{"workflow": "w"}',
        '{"workflow": "w"}'.encode("utf-16"),
        rb'{"workflow": "\ud800"}',
        b'{"workflow": "\xff"}',
        b'{"workflow": "w"} CANARY',
        b'{"workflow": "w", "version": ' + b"9" * 5000 + b"}",
        b'{"workflow": "w", "input": ' + b"[" * 200_000,
    ],
)
def test_bad_json_is_no_request(body: bytes) -> None:
    """R67, R68."""
    assert "malformed_json" == rejection(body).code


@pytest.mark.parametrize("body", [None, True, 1, 1.5, "CANARY", ["CANARY"], []])
def test_a_request_is_an_object(body: JsonValue) -> None:
    assert [""] == error_pointers(body)


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        ("workflow", [None, 1, "", "CANARY" * 100, ["CANARY"], {"CANARY": 1}]),
        ("input", [None, "CANARY", ["CANARY"], 1]),
        ("metadata", [None, "CANARY", ["CANARY"]]),
        ("tags", [None, "CANARY", {"CANARY": 1}, ["CANARY", "CANARY"], [f"CANARY{i}" for i in range(11)]]),
        ("tags/0", [[1], [None], [""], ["CANARY" * 11], ["CANARY "], ["CANARY\n"], ["é"], ["a,CANARY"], [["CANARY"]]]),
        ("label", [1, "", "CANARY" * 100, ["CANARY"]]),
        ("version", ["1", "CANARY", 0, -1, 1.5, 2**31, 2**70, True]),
        ("return_all_outputs", [None, "true", 1, 0]),
        ("timeout", ["1", "CANARY", 0, -1, 0.0, True]),
        ("callback_url", [1, "CANARY" * 1000]),
        ("unknown", [None, "CANARY"]),
    ],
)
def test_an_invalid_value_is_reported_by_pointer_without_the_value(member: str, wrong: list[JsonValue]) -> None:
    """R69: no coercion: "1" is not 1, null is not a value, 1 is not true; unknown members are errors."""
    for value in wrong:
        name = member.partition("/")[0]
        assert [f"/{member}"] == error_pointers({"workflow": "w", name: value}), value


def test_a_missing_workflow_is_named_too() -> None:
    assert ["/workflow"] == error_pointers({"input": {"CANARY": 1}})


def test_label_and_version_exclude_each_other() -> None:
    """R69: neither may be ignored in favour of the other."""
    assert [""] == error_pointers({"workflow": "w", "label": "CANARY", "version": 1})


def test_every_invalid_field_is_reported() -> None:
    problem = rejection({"workflow": 1, "input": 1, "timeout": "CANARY"})
    assert {"/workflow", "/input", "/timeout"} == {error.pointer for error in problem.errors}


@pytest.mark.parametrize(
    ("name", "pointer"), [("a/b", "a~1b"), ("a~b", "a~0b"), ("~1", "~01"), ("", ""), ("ä\n", "ä\n"), ("0", "0")]
)
def test_pointers_are_escaped(name: str, pointer: str) -> None:
    """RFC 6901, 3."""
    assert [f"/metadata/{pointer}"] == error_pointers({"workflow": "w", "metadata": {name: 1}})


def test_error_details_are_bounded() -> None:
    """In number and length."""
    problem = rejection({"workflow": "w", "metadata": {f"{i:03}" + "x" * 1000: 1 for i in range(500)}})
    assert 20 == len(problem.errors)
    assert all(len(error.pointer) <= 200 for error in problem.errors)
    assert len(problem.document("")) < 10_000


@pytest.mark.parametrize("size", [1001, 90_000])
def test_too_many_members_are_counted_and_not_looked_at(size: int) -> None:
    """R67: a body with many errors must not block other requests while each error is described."""
    many = {f"m{i}": 1 for i in range(size)}
    assert [FieldError("", "more than 1000 members")] == list(rejection(many).errors)
    assert ["/metadata"] == error_pointers({"workflow": "w", "metadata": many})
    assert ["/tags"] == error_pointers({"workflow": "w", "tags": list(range(size))})


@pytest.mark.parametrize("tags", ["abc", {"a": "b"}, None, 1])
def test_what_is_no_list_of_tags_is_refused_in_terms_of_json(tags: object) -> None:
    problem = rejection({"workflow": "w", "tags": tags})
    assert [FieldError("/tags", "Input should be a valid list")] == list(problem.errors)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[]", FieldError("", "must be a JSON object")),
        (b'{"workflow": "w", "input": 1}', FieldError("/input", "must be a JSON object")),
        (b'{"workflow": "w", "inputs": {}}', FieldError("/inputs", "is not a member of this object")),
    ],
)
def test_messages_speak_of_json(body: bytes, error: FieldError) -> None:
    with pytest.raises(Problem) as caught:
        parse_json_body(RunRequest, body)
    assert [error] == list(caught.value.errors)


def test_an_input_may_have_any_number_of_members() -> None:
    many = {f"m{i}": i for i in range(5000)}
    assert many == parse_json_body(RunRequest, json.dumps({"workflow": "w", "input": many}).encode()).input


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé\n"/~'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé~/"), inner, max_size=3),
)
MEMBERS = st.sampled_from([*FULL_REQUEST, "version", "other"])


@given(st.dictionaries(MEMBERS, JSON) | JSON)
def test_any_json_is_a_request_or_a_problem(body: object) -> None:
    """R74: every JSON value is either a request, parsed unchanged, or a problem."""
    try:
        read = parse_json_body(RunRequest, json.dumps(body).encode())
    except Problem as problem:
        refusal = json.loads(problem.document(""))
    else:
        assert isinstance(body, dict)
        assert body == read.model_dump(include=set(body))
        return
    assert "invalid_request" == refusal["code"]
    assert refusal["errors"]


# Answers.


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0"), (0.001, "1"), (1, "1"), (1.2, "2"), (86_399.5, "86400")])
def test_a_hint_is_rounded_up(seconds: float, shown: str) -> None:
    """RFC 9110, 10.2.3: whole seconds; a client that returns at that time must not be too early."""
    response = problem_response(Problem("overloaded", retry_after=seconds), "req_1")
    assert shown == response.headers["Retry-After"]


def test_a_problem_is_answered_with_its_headers() -> None:
    problem = Problem("rate_limited", headers=(("RateLimit", '"a";r=0;t=1'), ("RateLimit-Policy", '"a";q=1;w=1')))
    response = problem_response(problem, "req_1")
    assert (429, "application/problem+json", '"a";r=0;t=1') == (
        response.status,
        response.content_type,
        response.headers["RateLimit"],
    )
    assert "Retry-After" not in response.headers
    assert isinstance(response.body, bytes)
    assert "req_1" == json.loads(response.body)["request_id"]


def test_an_answer_names_us_and_no_version() -> None:
    made = make_response(200, b"{}", "application/json", (("X-Own", "1"), ("server", "other/1.0")))
    lines = made.head().lower().split(b"\r\n")
    assert [b"server: runward"] == [line for line in lines if line.startswith(b"server")]


# Reading.


def keeping_alive(sent: bytes) -> bytes:
    """Return the same request with keep-alive."""
    return sent.replace(b"Connection: close\r\n", b"")


async def test_a_body_is_read_however_it_comes(server: ServerHarness) -> None:
    """At once, in pieces, in chunks, and after a delay."""
    body = b'{"workflow":"w","input":{"a":1}}'
    head = f"POST /run HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n".encode()
    typed = head + b"Content-Type: application/json; charset=utf-8\r\n"
    by_length = typed + b"Content-Length: %d\r\n\r\n" % len(body)
    chunks = [b"%x\r\n%c\r\n" % (1, byte) for byte in body]
    for sent in (
        [by_length + body],
        [by_length, body],
        [by_length, body[:5], body[5:]],
        [typed + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n"],
        [typed + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\nX-Trailer: 1\r\n\r\n"],
    ):
        [found] = parse_responses(await server.send_raw(*sent))
        assert (200, {"a": 1}) == (found.status, found.json["input"])


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/jsonx",
        "application/problem+json",
        "text/json",
        "application/json; charset=iso-8859-1",
        "application/json, text/plain",
    ],
)
async def test_another_type_is_not_read(server: ServerHarness, kind: str) -> None:
    """R72: media types that a browser form can send are not accepted."""
    sent = build_run_request(b'{"workflow":"w"}').replace(b"application/json", kind.encode())
    [found] = parse_responses(await server.send_raw(sent))
    assert (415, "unsupported_media_type") == (found.status, found.code)


@pytest.mark.parametrize(
    "kind",
    [
        "Application/JSON",
        "application/json;charset=UTF-8",
        'application/json ; Charset="utf-8"; x=1',
        "application/json;",
    ],
)
async def test_json_is_recognized_in_every_spelling(server: ServerHarness, kind: str) -> None:
    """RFC 9110, 8.3.1: type and parameter names without regard to case, values quoted or not."""
    sent = build_run_request(b'{"workflow":"w"}').replace(b"application/json", kind.encode())
    [found] = parse_responses(await server.send_raw(sent))
    assert 200 == found.status


@pytest.mark.parametrize(
    "field",
    ["Content-Encoding: gzip", "Content-Encoding: identity, GZIP", "Content-Encoding: br", "Content-Encoding: x"],
)
async def test_a_compressed_body_is_not_opened(server: ServerHarness, field: str) -> None:
    """R66: whatever its content."""
    found = await server.post_run(b"\x1f\x8b" + b"\x00" * 20, field)
    assert (415, "unsupported_media_type") == (found.status, found.code)


@pytest.mark.parametrize("field", ["Content-Encoding: Identity", "Content-Encoding:", "Content-Encoding: ,"])
async def test_a_body_without_a_content_coding_is_accepted(server: ServerHarness, field: str) -> None:
    """RFC 9110, 8.4.1 and 5.6.1: identity is no coding, and an empty list has no element."""
    found = await server.post_run(b'{"workflow":"w"}', field)
    assert 200 == found.status


async def test_a_compressed_transfer_is_not_opened_either(server: ServerHarness) -> None:
    """R66: the HTTP parser supports the coding, so it is refused after parsing."""
    sent = build_request("POST", "/run", f"Authorization: Bearer {KEY}", "Content-Type: application/json")
    coded = sent.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip, chunked\r\n\r\n") + b"1\r\nx\r\n0\r\n\r\n"
    [found] = parse_responses(await server.send_raw(coded))
    assert found.status in {400, 415}


@pytest.mark.parametrize("more", [0, 1])
async def test_a_body_has_a_largest_size(server: ServerHarness, more: int) -> None:
    """R65: exact to the byte."""
    fill = MAX_BODY - len(b'{"workflow":""}') - 500 + more
    body = b'{"workflow":"w","input":{"a":"' + b"x" * fill + b'"}}'
    body += b" " * (MAX_BODY + more - len(body))
    found = await server.post_run(body)
    assert (413 if more else 200) == found.status


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(server: ServerHarness) -> None:
    """R65: refused by its Content-Length."""
    sent = keeping_alive(build_run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 100000000"))
    [found] = parse_responses(await server.send_raw(sent, half_close=True))
    assert ("payload_too_large", "close") == (found.code, found.headers["connection"])


async def test_a_body_that_does_not_say_so_is_counted(server: ServerHarness) -> None:
    """R65: a chunked body is refused at the limit."""
    sent = build_run_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    raw = await server.send_raw(sent, chunk, chunk, half_close=True)
    assert ["payload_too_large"] == [found.code for found in parse_responses(raw)]


async def test_a_slow_body_is_not_waited_for() -> None:
    """R64: 408, not the 504 of a timeout in a handler, and the connection is closed."""
    sent = keeping_alive(build_run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 50"))
    async with running_server(body_timeout=0.05) as server:
        [found] = parse_responses(await server.send_raw(sent, b'{"workflow"'))
    assert (408, "request_timeout", "close") == (found.status, found.code, found.headers["connection"])


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"5\r\nabcdefgh\r\n", b"-1\r\n", b"\r\n\r\n"])
async def test_a_body_that_is_badly_framed_is_malformed(server: ServerHarness, chunk: bytes) -> None:
    """R70: refused at once, not at the body timeout."""
    sent = build_run_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    [found] = parse_responses(await server.send_raw(sent, chunk))
    assert (400, "malformed_request") == (found.status, found.code)


@pytest.mark.parametrize("half_close", [True, False])
async def test_a_disconnect_during_the_body_is_logged_as_499(server: ServerHarness, *, half_close: bool) -> None:
    """Counted as a disconnect, without a 500 and without an error in the log."""
    sent = build_run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 50")
    if half_close:
        await server.send_raw(sent, b"{", half_close=True)
    else:
        await server.send_and_reset(sent, b"{")
    await server.wait_until_logged()
    [line] = server.log_entries
    assert ("info", 499, "client_closed_request") == (line["log_level"], line["status"], line["code"])
    assert 0 == server.limiter.in_flight


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue", " 100-continue ,", "x=1, 100-continue"])
async def test_expect_100_continue_is_answered_with_100(server: ServerHarness, expect: str) -> None:
    """RFC 9110, 10.1.1: a list without regard to case; curl waits for this response with larger bodies."""
    sent = build_run_request(b"", f"Expect: {expect}").replace(b"Content-Length: 0", b"Content-Length: 16")
    raw = await server.send_raw(sent, b'{"workflow":"w"}')
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_expect_100_continue_is_refused_without_100_when_the_body_is_too_large(server: ServerHarness) -> None:
    """The body need not be sent."""
    sent = build_run_request(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 100000000")
    raw = await server.send_raw(sent, half_close=True)
    assert raw.startswith(b"HTTP/1.1 413 ")


async def test_a_large_body_without_room_is_refused_and_a_small_one_is_read() -> None:
    """Before it is read; nothing was run."""
    async with running_server(max_bytes_in_flight=4 * LARGE, max_body=10 * LARGE) as server:
        large = b'{"workflow":"w"' + b" " * LARGE + b"}"
        assert 200 == (await server.post_run(large)).status
        with Hold(server.byte_budget) as other:
            other.add(3 * LARGE)
            found = await server.post_run(large)
            assert (503, "overloaded", "1") == (found.status, found.code, found.headers["retry-after"])
            assert "not_run" == found.json["outcome"]
            chunked = build_request(
                "POST", "/run", f"Authorization: Bearer {KEY}", "Content-Type: application/json",
                "Transfer-Encoding: chunked",
            ) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)  # fmt: skip
            assert ["overloaded"] == [each.code for each in parse_responses(await server.send_raw(chunked))]
            assert 200 == (await server.post_run(b'{"workflow":"w"}')).status
        await wait_until(lambda: server.byte_budget.held == 0)


@pytest.mark.parametrize(("client", "held_before"), [("", 2000), ("one", 400_000)])
async def test_only_the_body_of_a_known_client_is_held_before_it_arrives(client: str, held_before: int) -> None:
    """Else header fields alone could occupy the byte budget."""
    budget = ByteBudget(limit=1_000_000)
    content = StreamReader(mock.Mock(_reading_paused=False), 2**20, loop=asyncio.get_running_loop())
    request = SimpleNamespace(
        hold=Hold(budget),
        client_name=client,
        body=None,
        content=content,
        content_length=200_000,
        head=RequestHead("POST", ("/", ""), CIMultiDict(), UNKNOWN_ROUTE),
        transport=mock.Mock(),
        version=HttpVersion10,
    )
    reading = asyncio.create_task(read_raw_body(cast("Request", request), max_bytes=300_000, timeout=10))
    content.feed_data(b"x" * 1000)
    await wait_until(lambda: content.total_bytes == 1000 and not content._buffer)
    await asyncio.sleep(0)
    assert held_before == budget.held
    content.feed_data(b"x" * 199_000)
    content.feed_eof()
    assert 200_000 == len(await reading)
    assert 400_000 == budget.held
