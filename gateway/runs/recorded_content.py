"""Content of recorded runs: which of them keep their input and output, and in which form these are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, cast

from gateway.clock import Clock
from gateway.json import strict_json
from gateway.redaction import Redaction
from gateway.runs import rendering
from gateway.runs.durable.codec import encode_order
from gateway.runs.model import RunRecord, RunStatus
from providers.contract import JsonValue

KeepMode: TypeAlias = Literal["none", "failed", "sampled", "all"]
"""Recorded runs whose content is kept: none; those that have failed or ended as unknown; a random sample; all."""

RunErrorText: TypeAlias = tuple[str, str | None]
"""Code and detail of the error that a run ended with."""

_FAILED: frozenset[RunStatus] = frozenset({"failed", "unknown"})


@dataclass(frozen=True, slots=True)
class ContentRule:
    """Which content is kept, for how many seconds, at most how many bytes of a run, and what is redacted in it."""

    keep: KeepMode = "none"
    sample: float = 0.01
    retention: float = 3 * 86400.0
    most: int = 64_000
    redaction: Redaction | None = None


@dataclass(frozen=True, slots=True)
class ContentConfig:
    """The rules of workflows by alias, and that of all others."""

    default: ContentRule = ContentRule()
    workflows: Mapping[str, ContentRule] = field(default_factory=dict)

    @property
    def keeps_any(self) -> bool:
        """Return whether the content of any run is kept."""
        return any(rule.keep != "none" for rule in (self.default, *self.workflows.values()))

    def choose(self, workflow: str, clock: Clock) -> ContentRule | None:
        """Return the rule for a run that begins; None if its content is not kept, however it ends."""
        rule = self.workflows.get(workflow, self.default)
        if rule.keep == "none" or (rule.keep == "sampled" and clock.random() >= rule.sample):
            return None
        return rule


NO_CONTENT = ContentConfig()


@dataclass(slots=True)
class HeldContent:
    """Content of a run that may be kept at its end; the run itself has the input.

    `provider`: that of the requested workflow. `input_size`: bytes of the request's body. `answer`: the body of the
    response to a run that succeeded.
    """

    rule: ContentRule
    provider: str
    input_size: int
    answer: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of JSON."""
        return self.input_size + len(self.answer)

    def is_wanted(self, status: RunStatus) -> bool:
        """Return whether the content of a run with this end is kept."""
        return self.rule.keep != "failed" or status in _FAILED

    def encode(self, run: RunRecord, error: RunErrorText | None) -> tuple[bytes, bytes] | None:
        """Return order and document of a run that has ended as they are stored; None if they are too large.

        With redaction, outputs of nodes are left out.
        """
        document = rendering.run_document(run)
        if error is not None:
            document["error"] = {"code": error[0], "detail": error[1]}
        redaction = self.rule.redaction
        if redaction is None:
            order, stored = encode_order(run.spec, self.provider), self.answer or strict_json.write(document)
        else:
            answer = cast("dict[str, JsonValue]", strict_json.read_stored(self.answer)) if self.answer else {}
            given = cast("JsonValue", run.spec.input)
            redacted = redaction.redact({"input": given, "output": answer.get("output")})
            changed = redacted["input"] != given
            spec = replace(run.spec, input=cast("Mapping[str, JsonValue]", redacted["input"]))
            order = encode_order(spec, self.provider, redacted=changed)
            members = {name: value for name, value in document.items() if name != "outputs"}
            # A run without an output has none to be redacted.
            output = redacted["output"] if self.answer else None
            stored = strict_json.write({**members, "output": output})
        return (order, stored) if len(order) + len(stored) <= self.rule.most else None
