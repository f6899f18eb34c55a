"""Bodies that are invalid or excessive JSON are refused at once and never forwarded (R67, R68)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.support.raw_client import RUN, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")


def run_with(member: bytes) -> bytes:
    """Return a valid run with this additional member."""
    return b'{"workflow": "studio", ' + member + b"}"


def nested(depth: int, left: bytes = b"[", right: bytes = b"]") -> bytes:
    """A run whose input has nested arrays."""
    return run_with(b'"input": {"a": ' + left * depth + b"1" + right * depth + b"}")


def object_with_members(key: bytes, count: int) -> bytes:
    """Return an object with this number of members, with this prefix of names."""
    return b"{" + b",".join(b'"%b%d": 0' % (key, number) for number in range(count)) + b"}"


COSTLY_BODIES: dict[str, tuple[Callable[[], bytes], int]] = {  # made by the test that sends them
    "200 000 arrays": (lambda: nested(200_000), 400),
    "100 000 objects": (lambda: nested(100_000, b'{"":', b"}"), 400),
    "200 000 arrays, open": (lambda: nested(200_000, right=b""), 400),
    "200 000 backslashes": (lambda: run_with(b'"input": {"a": "' + b"\\" * 200_001 + b'"}'), 400),
    "60 000 keys": (lambda: run_with(b'"input": ' + object_with_members(b"k", 60_000)), 200),
    "50 000 escaped keys": (lambda: run_with(b'"input": ' + object_with_members(b"\\u006b", 50_000)), 200),
    "60 000 unknown fields": (lambda: run_with(object_with_members(b"k", 60_000)[1:-1]), 422),
    "60 000 wrong values": (lambda: run_with(b'"metadata": ' + object_with_members(b"k", 60_000)), 422),
    "10^6 keys": (lambda: run_with(b'"input": ' + object_with_members(b"k", 1_000_000)), 413),
    "5 000 digits": (lambda: run_with(b'"version": ' + b"1" * 5000), 400),
    "300 digits": (lambda: run_with(b'"version": ' + b"1" * 300), 422),
    "a million digits": (lambda: run_with(b'"timeout": ' + b"1" * 990_000), 400),
    "a million decimals": (lambda: run_with(b'"timeout": 0.' + b"1" * 990_000), 200),
    "3 000 numbers of 300 digits": (
        lambda: run_with(b'"input": {"a": [' + b",".join([b"9" * 300] * 3000) + b"]}"),
        200,
    ),
    "a million line ends": (lambda: RUN + b"\n" * 990_000, 200),
}


@pytest.mark.parametrize("what", COSTLY_BODIES)
async def test_heavy_bodies_are_light_work(harness: GatewayHarness, what: str) -> None:
    """R67: deep, wide or long bodies are refused with little CPU time, never with a 500; valid ones are run."""
    build_body, status = COSTLY_BODIES[what]
    request = build_run(build_body())
    spent: list[float] = []
    for _ in range(3):
        before = harness.gateway.cpu_seconds()
        assert status == (await send_request(harness.url, request)).status
        await harness.access_log("run", len(spent) + 1)
        spent.append(harness.gateway.cpu_seconds() - before)
    assert min(spent) < 0.25  # seconds; quadratic work on 60 000 members takes minutes


async def test_deep_but_not_too_deep_input_arrives_whole(harness: GatewayHarness) -> None:
    """R67: input at the depth limit is accepted, with every digit."""
    body = run_with(b'"input": {"a": ' + b"[" * 150 + b"123456789012345678901234567890" + b"]" * 150 + b"}")
    assert 200 == (await send_request(harness.url, build_run(body))).status
    assert json.loads(harness.upstream.received[0].body)["input"] == json.loads(body)["input"]


MALFORMED = {
    "empty": b"",
    "space": b" \r\n\t ",
    "NaN": run_with(b'"timeout": NaN'),
    "NaN in the input": run_with(b'"input": {"a": NaN}'),
    "Infinity": run_with(b'"timeout": Infinity'),
    "-Infinity": run_with(b'"timeout": -Infinity'),
    "1e999": run_with(b'"timeout": 1e999'),
    "-1e999 in the input": run_with(b'"input": {"a": [-1e999]}'),
    "key twice": run_with(b'"workflow": "layer"'),
    "key twice, equal": run_with(b'"workflow": "studio"'),
    "key twice, once escaped": run_with(b'"work\\u0066low": "layer"'),
    "key twice in the input": run_with(b'"input": {"a": {"b": 1, "b": 1}}'),
    "key twice in an array": run_with(b'"input": {"a": [{"b": 1, "c": 2, "b": 3}]}'),
    "key twice, escaped, deep": run_with(b'"input": {"a": [{"b": 1, "\\u0062": 3}]}'),
    "BOM": b"\xef\xbb\xbf" + RUN,
    "UTF-16": RUN.decode().encode("utf-16"),
    "UTF-16 without BOM": RUN.decode().encode("utf-16-le"),
    "UTF-16 the other way": RUN.decode().encode("utf-16-be"),
    "UTF-32": RUN.decode().encode("utf-32"),
    "lone surrogate": run_with(b'"label": "\\ud800"'),
    "lone low surrogate": run_with(b'"label": "\\udc00a"'),
    "surrogates in the wrong order": run_with(b'"label": "\\udc00\\ud800"'),
    "lone surrogate in a key": run_with(b'"metadata": {"\\ud800": ""}'),
    "surrogate in UTF-8": run_with(b'"label": "\xed\xa0\x80"'),
    "bad UTF-8": run_with(b'"label": "\xff"'),
    "overlong UTF-8": run_with(b'"label": "\xc0\xaf"'),
    "half a character": run_with(b'"label": "\xe2\x82"'),
    "Latin-1": run_with('"label": "ä"'.encode("latin-1")),
    "trailing letter": RUN + b"x",
    "trailing object": RUN + b"{}",
    "trailing comma": RUN + b",",
    "trailing NUL": RUN + b"\0",
    "leading NUL": b"\0" + RUN,
    "comma before the end": RUN[:-1] + b",}",
    "comma before an array's end": run_with(b'"input": {"a": [1,]}'),
    "comment": RUN[:-1] + b"/* */}",
    "line comment": RUN + b"// a",
    "single quotes": RUN.replace(b'"', b"'"),
    "no quotes": b"{workflow: 1}",
    "cut off": RUN[:-1],
    "cut off in a string": RUN[:-3],
    "+1": run_with(b'"timeout": +1'),
    "01": run_with(b'"timeout": 01'),
    ".5": run_with(b'"timeout": .5'),
    "5.": run_with(b'"timeout": 5.'),
    "0x1": run_with(b'"timeout": 0x1'),
    "1_0": run_with(b'"timeout": 1_0'),
    "TRUE": run_with(b'"return_all_outputs": True'),
    "None": run_with(b'"label": None'),
    "line end in a string": run_with(b'"label": "a\nb"'),
    "tab in a string": run_with(b'"label": "a\tb"'),
    "NUL in a string": run_with(b'"label": "a\0b"'),
    "bad escape": run_with(b'"label": "\\x41"'),
    "half an escape": run_with(b'"label": "\\u12"'),
    "form feed": b"\x0c" + RUN,
    "no-break space": b"\xc2\xa0" + RUN,
    "two lines": RUN + b"\n" + RUN,
    "form": b"workflow=studio",
    "XML": b"<workflow>studio</workflow>",
}  # fmt: skip


@pytest.mark.parametrize("mistake", MALFORMED)
async def test_what_is_not_json_is_a_400(harness: GatewayHarness, mistake: str) -> None:
    """R68: it is neither forwarded nor quoted."""
    reply = await send_request(harness.url, build_run(MALFORMED[mistake]))
    assert_problem(reply, 400, "malformed_json")
    assert ([], True) == (harness.upstream.received, b"studio" not in reply.body)
