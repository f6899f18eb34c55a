"""Centrifugo protocol of the SDKs; all other frames are refused within bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.promptlayer.realtime import centrifugo
from gateway.api.promptlayer.realtime.centrifugo import (
    Connect,
    InvalidFrame,
    Pong,
    Subscribe,
    UnknownCommand,
    Unsubscribe,
    parse_frame,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["id", "connect", "subscribe", "unsubscribe", "publish", "token", "channel", "rpc"])
NEARLY_VALID = st.dictionaries(MEMBERS, st.dictionaries(MEMBERS, JSON) | JSON)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('{"id":1,"connect":{"token":"t","name":"python"}}', Connect(1, "t")),
        ('{"connect":{"token":"t","name":"js"},"id":1}', Connect(1, "t")),
        ('{"id":2,"subscribe":{"channel":"workflows:3:run:a71d"}}', Subscribe(2, "workflows:3:run:a71d")),
        ('{"id":2,"subscribe":{"channel":"workflow_updates:5","flag":1}}', Subscribe(2, "workflow_updates:5")),
        ('{"id":3,"unsubscribe":{"channel":"c"}}', Unsubscribe(3, "c")),
        ('{"id":4,"publish":{"channel":"c","data":{}}}', UnknownCommand(4)),
        ("{}", Pong()),
    ],
)
def test_frames_of_the_sdks_are_parsed(line: str, command: centrifugo.Command) -> None:
    """Frames as both SDKs send them."""
    assert [command] == parse_frame(line)


def test_commands_of_one_frame_keep_their_order() -> None:
    assert [Pong(), UnknownCommand(7), Pong()] == parse_frame('{}\n{"id":7}\n{}\n')


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "\n\n",
        "[]",
        "null",
        "1",
        '"connect"',
        '{"id":1,"connect":{}}',
        '{"id":1,"connect":[]}',
        '{"id":1,"connect":{"token":""}}',
        '{"id":1,"connect":{"token":7}}',
        '{"id":1,"connect":{"token":"%s"}}' % ("t" * 5000),
        '{"id":0,"subscribe":{"channel":"c"}}',
        '{"id":-1}',
        '{"id":true}',
        '{"id":1.5}',
        '{"id":"1"}',
        '{"id":4294967296}',
        '{"connect":{"token":"t"}}',
        '{"id":1,"connect":{"token":"t"}',
        '{"id":NaN}',
        '{"id":1,"subscribe":{"channel":"\\ud800"}}',
        '{"id":1,"subscribe":{"channel":"\ud800"}}',
        '{"a":' * 300 + "1" + "}" * 300,
        "{}\n" * 17,
        " " * 20_000 + "{}",
    ],
)
def test_invalid_frames_are_refused(frame: str) -> None:
    """Each of them closes the connection; no message quotes them."""
    with pytest.raises(InvalidFrame) as refused:
        parse_frame(frame)
    assert len(str(refused.value)) < 40


@given(
    st.text()
    | JSON.map(json.dumps)
    | NEARLY_VALID.map(json.dumps)
    | st.lists(NEARLY_VALID.map(json.dumps)).map("\n".join)
)
def test_any_frame_is_parsed_or_refused(frame: str) -> None:
    """Every other frame is refused, and accepted frames are bounded."""
    try:
        commands = parse_frame(frame)
    except InvalidFrame:
        return
    assert 1 <= len(commands) <= centrifugo.MAX_COMMANDS


def test_replies_have_the_form_of_centrifugo() -> None:
    said = [
        centrifugo.connect_reply(1, "c", ping_interval=25),
        centrifugo.subscribe_reply(2),
        centrifugo.unsubscribe_reply(3),
        centrifugo.error_reply(4, centrifugo.PERMISSION_DENIED),
        centrifugo.PING,
    ]
    assert [
        {"id": 1, "connect": {"client": "c", "version": "runward", "ping": 25, "pong": True}},
        {"id": 2, "subscribe": {}},
        {"id": 3, "unsubscribe": {}},
        {"id": 4, "error": {"code": 103, "message": "permission denied"}},
        {},
    ] == [json.loads(line) for line in said]


@given(st.text(st.characters(exclude_categories=["Cs"])), JSON)
def test_a_publication_is_one_line_with_its_data_as_text(channel: str, value: object) -> None:
    """Python's SDK splits frames at line feeds before it parses them, and parses the data again."""
    line = centrifugo.publication(channel, "SET_WORKFLOW_COMPLETE", json.dumps(value).encode())
    assert "\n" not in line
    push = json.loads(line)["push"]
    assert (channel, "SET_WORKFLOW_COMPLETE") == (push["channel"], push["pub"]["data"]["message_name"])
    assert value == json.loads(push["pub"]["data"]["data"])
