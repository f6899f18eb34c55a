"""Field types: names, patterns, hashes, timestamps and numbers with stricter checks than pydantic's."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from hashlib import sha256
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.certificate_names import MAX_LENGTH, normalize_certificate_name
from gateway.passthrough_rules import RULE_PATTERN, PassthroughRule

SDK_CALLS = "sdk"
"""Name that stands for the calls of a provider's official SDKs among passthrough rules."""
PLAIN_TEXT = "plain text"
"""Annotation of a list or mapping that is not JSON in the text of a variable."""
NAME_PATTERN = r"^(?!\.+$)[A-Za-z0-9._-]{1,100}$"
SCOPE_PATTERN = r"^(?:[A-Za-z0-9._*?!\[\]-]{1,100}|[A-Za-z0-9._-]{1,100}/.{1,500})$"
HASH_PATTERN = r"^sha256:[0-9A-Fa-f]{64}$"
_HASH_OF_EMPTY_KEY = "sha256:" + sha256().hexdigest()
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)


def check_name(text: str) -> str:
    """Check an alias, or the name of a provider or client. Raises ValueError."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("a name has letters, digits, '.', '_' and '-' only, and 100 of them at most")
    return text


def check_provider_workflow_name(text: str) -> str:
    """Check a workflow name at a provider: any text that fits into one path segment. Raises ValueError."""
    if text in {"", ".", ".."} or len(text) > 500 or not text.isprintable():
        raise ValueError("must be a name of 1 to 500 printable characters, and neither . nor ..")
    return text


def parse_version(value: object) -> int | str:
    """Parse a version: a number from 1, or a text; a text of digits is a number. Raises ValueError."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,10}", value):
            return check_provider_workflow_name(value)
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number or a text")  # noqa: TRY004 - pydantic turns a TypeError into a crash
    if value < 1:
        raise ValueError("must be at least 1")
    if value > 10**9:
        raise ValueError("must be at most 1000000000")
    return value


def check_scope(text: str) -> str:
    """Check a pattern over aliases, or `provider/pattern` over names at that provider. Raises ValueError."""
    if not re.fullmatch(SCOPE_PATTERN, text) or not text.isprintable():
        raise ValueError("must be a pattern over aliases such as support-*, or provider/pattern")
    return text


def check_passthrough_rule(text: str) -> str:
    """Check a passthrough rule: a method and a path, or "sdk". Raises ValueError."""
    if text != SDK_CALLS:
        PassthroughRule.parse(text)
    return text


def _as_list(value: object) -> object:
    """Return a text as a list of one."""
    return [value] if isinstance(value, str) else value


def check_certificate_name(text: str) -> str:
    """Check a certificate's subject or SAN. Raises ValueError."""
    normalize_certificate_name(text)
    return text


def check_key_hash(text: str) -> str:
    """Check the hash of a gateway key; returns it in lower case. Raises ValueError."""
    if not re.fullmatch(HASH_PATTERN, text):
        raise ValueError("must be sha256: and 64 hexadecimal digits: the hash of the key, never the key")
    if text.lower() == _HASH_OF_EMPTY_KEY:
        raise ValueError("is the hash of an empty key: requests without a key would be accepted")
    return text.lower()


def parse_timestamp(value: object) -> datetime:
    """Parse a date (00:00 UTC) or a date and time (UTC without a zone); returns a time in UTC. Raises ValueError."""
    try:
        read = value if isinstance(value, date) else _parse_timestamp_text(value)
        if not isinstance(read, datetime):
            read = datetime.combine(read, time.min)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a date such as 2027-01-31, or 2027-01-31T12:00:00Z") from None


def _parse_timestamp_text(value: object) -> date:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise ValueError
    return datetime.fromisoformat(value)


def _number_as_text(value: object) -> object:
    return str(value) if type(value) is int else value


def _reject_bool(value: object) -> object:
    # pydantic reads `true` as 1.
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004 - pydantic turns a TypeError into a crash
    return value


Name: TypeAlias = Annotated[
    str, AfterValidator(check_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]
ProviderWorkflowName: TypeAlias = Annotated[
    str,
    AfterValidator(check_provider_workflow_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 500}),
]
Alias: TypeAlias = Annotated[
    str,
    AfterValidator(check_provider_workflow_name),
    BeforeValidator(_number_as_text),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1, "maxLength": 500}, {"type": "integer"}]}),
]
"""Name, or an integer in place of one."""
Scope: TypeAlias = Annotated[
    str, AfterValidator(check_scope), WithJsonSchema({"type": "string", "pattern": SCOPE_PATTERN})
]
_PASSTHROUGH_SCHEMA = {"type": "string", "pattern": f"^{SDK_CALLS}$|{RULE_PATTERN}"}
PassthroughRuleText: TypeAlias = Annotated[
    str, AfterValidator(check_passthrough_rule), WithJsonSchema(_PASSTHROUGH_SCHEMA)
]
PassthroughRules: TypeAlias = Annotated[
    tuple[PassthroughRuleText, ...],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [_PASSTHROUGH_SCHEMA, {"type": "array", "items": _PASSTHROUGH_SCHEMA}]}),
]
"""A list of rules; a single one may stand without a list."""
CertificateName: TypeAlias = Annotated[
    str,
    AfterValidator(check_certificate_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}),
]
KeyHash: TypeAlias = Annotated[
    str, AfterValidator(check_key_hash), WithJsonSchema({"type": "string", "pattern": HASH_PATTERN})
]
Timestamp: TypeAlias = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"}),
]
Count: TypeAlias = Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_reject_bool)]
"""Integer of at least 1."""
Attempts: TypeAlias = Annotated[int, Field(ge=1, le=10), BeforeValidator(_reject_bool)]
Version: TypeAlias = Annotated[
    int | str,
    BeforeValidator(parse_version),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 10**9},
                {"type": "string", "minLength": 1, "maxLength": 500},
            ]
        }
    ),
]
"""Version of a workflow: a number, or a text where the provider's versions are texts. Digits are a number."""
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_reject_bool)]
"""Port number; 0: chosen by the system."""
