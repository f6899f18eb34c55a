"""docs/tracing.md has the spans, attributes and the metric of the table in the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gateway.observability.tracing.span_table import RUN_DURATION, SPAN_TYPES
from gateway.settings import TracingSettings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "tracing.md").read_text()


def test_every_span_has_a_section_with_its_attributes() -> None:
    """In the order of the table, with the same meanings."""
    sections = re.findall(r"^### `(.*?)` \((\w+)\)\n\n(.*?)\.\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    documented = [
        (name, kind, text.lower(), re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.MULTILINE))
        for name, kind, text, table in sections
    ]
    assert [
        (each.name, each.kind, each.text.lower(), list(each.attributes.items())) for each in SPAN_TYPES
    ] == documented
    events = re.findall(r"^\| event `(.*?)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert [pair for each in SPAN_TYPES for pair in each.events.items()] == events


def test_the_metric_is_described() -> None:
    """Its name, unit and buckets."""
    assert f"`{RUN_DURATION.name}` (histogram, {RUN_DURATION.unit}): {RUN_DURATION.text}." in PAGE
    listed = re.search(r"buckets end at ([\d,\sand]+) s\.", PAGE)
    assert listed is not None
    assert [str(bound) for bound in RUN_DURATION.buckets] == re.findall(r"\d+", listed[1])


def test_the_settings_are_those_of_the_model() -> None:
    """All settings, with their defaults but for `enabled`."""
    example = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])
    assert TracingSettings(enabled=True) == TracingSettings.model_validate(example["tracing"])
    assert set(TracingSettings.model_fields) == set(example["tracing"])
