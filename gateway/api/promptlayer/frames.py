"""What goes over PromptLayer's WebSocket: Centrifugo's protocol in JSON, as far as its SDKs speak it.

A frame holds commands, one a line, each with an `id` and one member that names it. `{}` is a ping, and its answer.
Source: centrifugal.dev, "Client protocol", and frames of the official SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway import strictjson

MOST_FRAME = 16_384
"""Bytes that a client's frame may have."""
MOST_COMMANDS = 16
"""Commands that it may hold."""
_MOST_ID = 2**32 - 1
_LONGEST = 4096  # characters of a token or a channel

PING = "{}"

DENIED = (103, "permission denied")
TWICE = (105, "already subscribed")
UNAVAILABLE = (108, "not available")

Refusal: TypeAlias = tuple[int, str]
"""Centrifugo's number and words for what it does not do."""


class BadFrame(ValueError):
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
class Other:
    """Any other command; none of them is served."""

    id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The client is there."""


Command: TypeAlias = Connect | Subscribe | Unsubscribe | Other | Pong


def parse(frame: str) -> list[Command]:
    """The commands of a frame, in order. Raises BadFrame for whatever is not one."""
    lines = [line for line in frame.split("\n", MOST_COMMANDS + 1) if line.strip()]
    if not 1 <= len(lines) <= MOST_COMMANDS or len(frame) > MOST_FRAME:
        raise BadFrame("no command, or too many")
    return [_command(line) for line in lines]


def _command(line: str) -> Command:
    try:
        value = strictjson.read(line.encode())
    except ValueError:  # a lone surrogate, too
        raise BadFrame("not JSON") from None
    if not isinstance(value, dict):
        raise BadFrame("not an object")
    if not value:
        return Pong()
    number = value.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_ID:
        raise BadFrame("no id")
    if "connect" in value:
        return Connect(number, _text(value["connect"], "token"))
    if "subscribe" in value:
        return Subscribe(number, _text(value["subscribe"], "channel"))
    if "unsubscribe" in value:
        return Unsubscribe(number, _text(value["unsubscribe"], "channel"))
    return Other(number)


def _text(of: object, member: str) -> str:
    text = of.get(member) if isinstance(of, dict) else None
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST:
        raise BadFrame(f"no {member}")
    return text


def connected(number: int, client: str, *, ping: int) -> str:
    """The client is known, as `client`. It is pinged every `ping` seconds, and has to answer."""
    return _line({"id": number, "connect": {"client": client, "version": "runward", "ping": ping, "pong": True}})


def subscribed(number: int) -> str:
    """What happens on the channel will be told."""
    return _line({"id": number, "subscribe": {}})


def unsubscribed(number: int) -> str:
    """It will not be any more."""
    return _line({"id": number, "unsubscribe": {}})


def refused(number: int, why: Refusal) -> str:
    """The command was not done; nothing else has changed."""
    return _line({"id": number, "error": {"code": why[0], "message": why[1]}})


def published(channel: str, name: str, data: bytes) -> str:
    """The message `name` on a channel. Its `data`, JSON, goes as a text in the JSON: the SDKs read it twice."""
    message = {"message_name": name, "data": data.decode()}
    return _line({"push": {"channel": channel, "pub": {"data": message}}})


def _line(value: Mapping[str, object]) -> str:
    return strictjson.write(value).decode()
