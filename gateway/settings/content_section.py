"""Section `content`: which payloads are stored, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from gateway.redaction import (
    MAX_OWN_PATTERNS,
    MAX_PATTERN,
    MAX_POINTER,
    NAMED_PATTERNS,
    POINTER_PATTERN,
    compile_pattern,
    parse_pointer,
)
from gateway.settings.errors import raise_validation_error
from gateway.settings.sections import Section
from gateway.settings.types.secret_reference import ContentKey
from gateway.settings.types.units import SIZE_PATTERN, Duration, parse_size

MAX_CONTENT = 128_000
"""Largest `content.max`, in bytes: bounds the time that redaction takes."""


def _parse_redaction(value: object) -> str | dict[str, str]:
    """Check a pointer, the name of a pattern, or {pattern: …}. Raises ValueError."""
    if isinstance(value, str) and value in NAMED_PATTERNS:
        return value
    if isinstance(value, str) and value.startswith("/"):
        parse_pointer(value)
        return value
    if isinstance(value, dict) and value.keys() == {"pattern"} and isinstance(value["pattern"], str):
        compile_pattern(value["pattern"])
        return {"pattern": value["pattern"]}
    names = ", ".join(sorted(NAMED_PATTERNS))
    raise ValueError(f"must be a JSON pointer such as /input/email, one of {names}, or {{pattern: …}}")


def _check_content_size(size: int) -> int:
    if size > MAX_CONTENT:
        raise ValueError("must be at most 128kB")
    return size


def _check_redactions(entries: tuple[str | dict[str, str], ...]) -> tuple[str | dict[str, str], ...]:
    if sum(not isinstance(entry, str) for entry in entries) > MAX_OWN_PATTERNS:
        raise ValueError(f"must have at most {MAX_OWN_PATTERNS} patterns of its own")
    return entries


_REDACTION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": sorted(NAMED_PATTERNS)},
        {"type": "string", "pattern": POINTER_PATTERN, "maxLength": MAX_POINTER},
        {
            "type": "object",
            "properties": {"pattern": {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}},
            "required": ["pattern"],
            "additionalProperties": False,
        },
    ]
}
RedactionEntry: TypeAlias = Annotated[
    str | dict[str, str], PlainValidator(_parse_redaction), WithJsonSchema(_REDACTION_SCHEMA)
]
"""A JSON pointer, the name of a pattern, or {"pattern": …}."""
Redactions: TypeAlias = Annotated[tuple[RedactionEntry, ...], Field(max_length=50), AfterValidator(_check_redactions)]
ContentSize: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    AfterValidator(_check_content_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": MAX_CONTENT},
                {"type": "string", "pattern": SIZE_PATTERN},
            ]
        }
    ),
]
"""Bytes, more than 0 and at most MAX_CONTENT."""
ContentKeep: TypeAlias = Literal["none", "failed", "sampled", "all"]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class EncryptionSettings(Section):
    """Encryption of inputs, results, callbacks and stored responses with AES-256-GCM. Needs runward[encryption]."""

    key: ContentKey | None = None
    """Key: 32 random bytes in base64, as `openssl rand -base64 32` makes them."""
    keys: Annotated[tuple[ContentKey, ...], Field(max_length=20)] = ()
    """Keys, instead of `key`: the first encrypts, each of them decrypts; several during a rotation."""

    @property
    def all_keys(self) -> tuple[ContentKey, ...]:
        """All keys, of which the first encrypts; empty without encryption."""
        return self.keys if self.key is None else (self.key,)

    @model_validator(mode="after")
    def _check_one_form(self) -> Self:
        if self.key is not None and self.keys:
            raise_validation_error([(("keys",), "key is given too: give one of them")])
        values = [key.get_secret_value() for key in self.keys]
        repeated = [index for index, value in enumerate(values) if value in values[:index]]
        raise_validation_error([(("keys", index), "is the same key as one before") for index in repeated])
        return self


class ContentSettings(Section):
    """Inputs and outputs in the store."""

    keep: ContentKeep = "none"
    """Recorded runs (synchronous, without a key) whose input and output are stored: none, those that failed or ended as
    unknown, a random sample, or all. Durable runs are always stored with both."""
    sample: Share = 0.01
    """Share of the runs that keep: sampled selects."""
    retention: Annotated[Duration, Field(alias="for")] = 3 * 86400.0
    """Time for which input and output of a recorded run are kept; its record stays for history.for."""
    max: ContentSize = 64_000
    """Largest input and output in sum, as JSON, at most 128kB; of larger ones nothing is kept."""
    redact: Redactions = ()
    """What is replaced by "[redacted]" before it is stored: JSON pointers such as /input/customer/email (`*`: any name
    or index), email, card, iban, and {pattern: …}."""
    encrypt: EncryptionSettings = EncryptionSettings()
    """Encryption at rest; without a key payloads are stored in clear."""


class WorkflowContentSettings(Section):
    """Input and output of recorded runs of one workflow; each value defaults to that of content."""

    keep: ContentKeep | None = None
    """Recorded runs whose input and output are stored."""
    sample: Share | None = None
    """Share of the runs that keep: sampled selects."""
    retention: Annotated[Duration | None, Field(alias="for")] = None
    """Time for which input and output of a recorded run are kept."""
    max: ContentSize | None = None
    """Largest input and output in sum, as JSON."""
    redact: Redactions | None = None
    """What is redacted, in place of the list of content.redact."""

    def resolve(self, base: ContentSettings) -> ContentSettings:
        """Return the settings of the workflow: its own values, and those of `base` where it has none."""
        own = {name: value for name, value in self if value is not None}
        return base.model_copy(update=own)
