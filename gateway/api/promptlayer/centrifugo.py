"""What goes over PromptLayer's WebSocket: Centrifugo's protocol in JSON, as far as its SDKs speak it.

A frame holds commands, one a line, each with an `id` and one member that names it. `{}` is a ping, and its answer.
Source: centrifugal.dev, "Client protocol", and frames of the official SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway import strictjson

MAX_FRAME_BYTES = 16_384
"""Bytes that a client's frame may have."""
MAX_COMMANDS = 16
"""Commands that it may hold."""
_MAX_ID = 2**32 - 1
_MAX_TEXT_LENGTH = 4096  # characters of a token or a channel

PING = "{}"

PERMISSION_DENIED = (103, "permission denied")
ALREADY_SUBSCRIBED = (105, "already subscribed")
NOT_AVAILABLE = (108, "not available")

CommandError: TypeAlias = tuple[int, str]
"""Centrifugo's number and words for what it does not do."""


class InvalidFrame(ValueError):
    """It is not of the protocol: nothing sensible can follow. Its text never quotes the frame."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Who is it? The `token` says so."""

    id: int
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Tell me what happens on `channel`."""

    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """No more of it."""

    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """Any other command; none of them is served."""

    id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The client is there."""


Command: TypeAlias = Connect | Subscribe | Unsubscribe | UnknownCommand | Pong


def parse_frame(frame: str) -> list[Command]:
    """The commands of a frame, in order. Raises BadFrame for whatever is not one."""
    lines = [line for line in frame.split("\n", MAX_COMMANDS + 1) if line.strip()]
    if not 1 <= len(lines) <= MAX_COMMANDS or len(frame) > MAX_FRAME_BYTES:
        raise InvalidFrame("no command, or too many")
    return [_parse_command(line) for line in lines]


def _parse_command(line: str) -> Command:
    try:
        value = strictjson.read(line.encode())
    except ValueError:  # a lone surrogate, too
        raise InvalidFrame("not JSON") from None
    if not isinstance(value, dict):
        raise InvalidFrame("not an object")
    if not value:
        return Pong()
    command_id = value.get("id")
    if not isinstance(command_id, int) or isinstance(command_id, bool) or not 1 <= command_id <= _MAX_ID:
        raise InvalidFrame("no id")
    if "connect" in value:
        return Connect(command_id, _text_member(value["connect"], "token"))
    if "subscribe" in value:
        return Subscribe(command_id, _text_member(value["subscribe"], "channel"))
    if "unsubscribe" in value:
        return Unsubscribe(command_id, _text_member(value["unsubscribe"], "channel"))
    return UnknownCommand(command_id)


def _text_member(container: object, member: str) -> str:
    text = container.get(member) if isinstance(container, dict) else None
    if not isinstance(text, str) or not 1 <= len(text) <= _MAX_TEXT_LENGTH:
        raise InvalidFrame(f"no {member}")
    return text


def connect_reply(command_id: int, client: str, *, ping_interval: int) -> str:
    """The client is known, as `client`. It is pinged every `ping` seconds, and has to answer."""
    return _encode(
        {"id": command_id, "connect": {"client": client, "version": "runward", "ping": ping_interval, "pong": True}}
    )


def subscribe_reply(command_id: int) -> str:
    """What happens on the channel will be told."""
    return _encode({"id": command_id, "subscribe": {}})


def unsubscribe_reply(command_id: int) -> str:
    """It will not be any more."""
    return _encode({"id": command_id, "unsubscribe": {}})


def error_reply(command_id: int, error: CommandError) -> str:
    """The command was not done; nothing else has changed."""
    return _encode({"id": command_id, "error": {"code": error[0], "message": error[1]}})


def publication(channel: str, message_name: str, data: bytes) -> str:
    """The message `name` on a channel. Its `data`, JSON, goes as a text in the JSON: the SDKs read it twice."""
    message = {"message_name": message_name, "data": data.decode()}
    return _encode({"push": {"channel": channel, "pub": {"data": message}}})


def _encode(value: Mapping[str, object]) -> str:
    return strictjson.write(value).decode()
