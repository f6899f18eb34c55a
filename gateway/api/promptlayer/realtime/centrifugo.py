"""Centrifugo's client protocol in JSON, as far as PromptLayer's SDKs use it.

A frame contains commands, one a line, each with an `id` and one member that names it. `{}` is a ping and its pong.
Source: centrifugal.dev, "Client protocol", and frames of the official SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.json import strict_json

MAX_FRAME_BYTES = 16_384
"""Maximum size of a client's frame in bytes."""
MAX_COMMANDS = 16
"""Maximum number of commands in a frame."""
_MAX_ID = 2**32 - 1
_MAX_TEXT_LENGTH = 4096  # characters of a token or a channel

PING = "{}"

PERMISSION_DENIED = (103, "permission denied")
ALREADY_SUBSCRIBED = (105, "already subscribed")
NOT_AVAILABLE = (108, "not available")

CommandError: TypeAlias = tuple[int, str]
"""Error code and message of Centrifugo."""


class InvalidFrame(ValueError):
    """The frame violates the protocol. The message never quotes the frame."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Authentication with a token."""

    id: int
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscription to a channel."""

    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """End of a subscription."""

    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """Any other command; not supported."""

    id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The response to a ping."""


Command: TypeAlias = Connect | Subscribe | Unsubscribe | UnknownCommand | Pong


def parse_frame(frame: str) -> list[Command]:
    """Commands of a frame, in order. Raises InvalidFrame."""
    lines = [line for line in frame.split("\n", MAX_COMMANDS + 1) if line.strip()]
    if not 1 <= len(lines) <= MAX_COMMANDS or len(frame) > MAX_FRAME_BYTES:
        raise InvalidFrame("no command, or too many")
    return [_parse_command(line) for line in lines]


def _parse_command(line: str) -> Command:
    try:
        value = strict_json.read(line.encode())
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
    """The client is authenticated; `client` is its connection id. It gets a ping every `ping_interval` seconds."""
    return _encode(
        {"id": command_id, "connect": {"client": client, "version": "runward", "ping": ping_interval, "pong": True}}
    )


def subscribe_reply(command_id: int) -> str:
    """The subscription is active."""
    return _encode({"id": command_id, "subscribe": {}})


def unsubscribe_reply(command_id: int) -> str:
    """The subscription has ended."""
    return _encode({"id": command_id, "unsubscribe": {}})


def error_reply(command_id: int, error: CommandError) -> str:
    """The command was refused; the connection stays open."""
    return _encode({"id": command_id, "error": {"code": error[0], "message": error[1]}})


def publication(channel: str, message_name: str, data: bytes) -> str:
    """A message on a channel. Its JSON `data` is sent as a string within the JSON, which the SDKs parse again."""
    message = {"message_name": message_name, "data": data.decode()}
    return _encode({"push": {"channel": channel, "pub": {"data": message}}})


def _encode(value: Mapping[str, object]) -> str:
    return strict_json.write(value).decode()
