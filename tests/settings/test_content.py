"""Section `content`: which input and output are stored, globally and for a workflow."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.app.factories import history_config
from gateway.redaction import MAX_OWN_PATTERNS
from gateway.runs.recorded_content import ContentRule
from gateway.settings import Settings
from gateway.settings.validation_errors import describe_errors


def settings(content: dict[str, Any], **changes: Any) -> Settings:
    """Return settings of three workflows; `changes` are those of the workflow `own`."""
    providers = {"p": {"adapter": "promptlayer", "api_key": "pl_4f9a8b7c6d5e"}}
    own = {"provider": "p", "content": changes}
    workflows = {"triage": {"provider": "p"}, "own": own, "empty": {"provider": "p", "content": {"redact": []}}}
    return Settings.model_validate({"content": content, "providers": providers, "workflows": workflows})


def errors_of(content: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"content": content})
    return list(describe_errors(caught.value, {}))


def test_nothing_is_kept_by_default() -> None:
    assert ContentRule() == history_config(settings({})).content.default
    assert {"none"} == {rule.keep for rule in history_config(settings({})).content.workflows.values()}


def test_a_workflow_has_the_global_values_unless_it_has_its_own() -> None:
    given = {"keep": "failed", "for": "1d", "max": "10kB", "redact": ["email", "/input/a"]}
    content = history_config(settings(given, keep="sampled", sample=0.5, redact=["/output/b"], **{"for": "1h"})).content
    triage, own, empty = (content.workflows[name] for name in ("triage", "own", "empty"))
    assert content.default == triage
    assert ("failed", 0.01, 86400.0, 10_000) == (triage.keep, triage.sample, triage.retention, triage.most)
    assert ("sampled", 0.5, 3600.0, 10_000) == (own.keep, own.sample, own.retention, own.most)
    assert triage.redaction is not None
    assert own.redaction is not None
    assert ((("input", "a"),), 1) == (triage.redaction.pointers, len(triage.redaction.patterns))
    assert ((("output", "b"),), ()) == (own.redaction.pointers, own.redaction.patterns)
    assert empty.redaction is None


@pytest.mark.parametrize(
    ("content", "place", "complaint"),
    [
        ({"keep": "some"}, "content.keep", "must be 'none', 'failed', 'sampled' or 'all'"),
        ({"sample": 0}, "content.sample", "must be more than 0"),
        ({"sample": 1.1}, "content.sample", "must be at most 1"),
        ({"for": "0s"}, "content.for", "must be longer than 0"),
        ({"max": "1MB"}, "content.max", "must be at most 128kB"),
        ({"redact": "email"}, "content.redact", "must be a list"),
        ({"redact": ["phone"]}, "content.redact[0]", "must be a JSON pointer such as /input/email, one of card, "),
        ({"redact": ["email", "/metadata/a"]}, "content.redact[1]", "must be a JSON pointer such as /input/customer"),
        ({"redact": [{"pattern": "(a+)+"}]}, "content.redact[0]", "may have characters, classes"),
        ({"redact": [{"patterns": "a"}]}, "content.redact[0]", "must be a JSON pointer"),
        ({"redact": [{"pattern": "a"}] * (MAX_OWN_PATTERNS + 1)}, "content.redact", "must have at most 10 patterns"),
        ({"redact": ["email"] * 51}, "content.redact", "must have at most 50"),
    ],
)
def test_mistakes_are_named(content: dict[str, Any], place: str, complaint: str) -> None:
    [(found, text)] = errors_of(content)
    assert place == found
    assert text.startswith(complaint)


def test_content_without_records_is_a_warning() -> None:
    given = Settings.model_validate({"history": {"keep": "kept"}, "content": {"keep": "all"}})
    assert "content.keep: has no effect without history.keep: all" in given.warnings()
    assert not any("content" in warning for warning in settings({"keep": "all"}).warnings())
