"""docs/runs.md names every parameter of `GET /runs`, every event of a timeline, and the bounds that hold."""

from __future__ import annotations

import json
import re
from datetime import datetime

import yaml

from gateway.api.openapi.list_parameters import list_parameters
from gateway.api.run_request import MAX_TAGS, RunRequest
from gateway.api.run_search import MAX_LIMIT
from gateway.http.body import parse_json_body
from gateway.runs.record_rendering import client_timeline
from gateway.runs.timeline import CLIENT_FIELDS, FIELDS, encode_event
from gateway.settings.sections import HistorySettings
from gateway.store.run_filter import MAX_EXAMINED, RunFilter
from tests.support.process import ROOT

PAGE = (ROOT / "docs" / "runs.md").read_text()


def test_every_condition_is_in_the_table() -> None:
    lists = PAGE.partition("\n## Lists\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", lists, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - {"meta.NAME"}
    assert {str(parameter["name"]) for parameter in list_parameters()} - {"limit", "cursor", "metadata"} == named


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"at most {MAX_EXAMINED:,} runs".replace(",", " ") in PAGE
    assert f"({RunFilter('').limit}, at most {MAX_LIMIT})" in PAGE
    assert f"at most {MAX_TAGS} tags" in PAGE


def test_the_examples_are_a_timeline_a_request_and_a_page() -> None:
    timeline, request, page = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(timeline)
    for event in shown["events"]:
        at, kind = datetime.fromisoformat(event["at"]).timestamp(), event["event"]
        line = encode_event(at, kind, *(event.get(name) for name in FIELDS[kind]))
        assert {"id": shown["id"], "events": [event]} == json.loads(client_timeline(shown["id"], line))
    assert 2 == len(parse_json_body(RunRequest, request.encode()).tags)
    assert {"runs", "next", "complete"} == set(json.loads(page))


def test_every_event_and_its_values_are_in_the_table() -> None:
    section = PAGE.partition("\n## What happened to a run\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", section, re.MULTILINE))
    assert CLIENT_FIELDS.keys() == rows.keys()
    for kind, names in CLIENT_FIELDS.items():
        assert [] == [name for name in names if name not in re.findall(r"\w+", rows[kind])], kind


def test_the_settings_of_the_history_are_its_defaults() -> None:
    example = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])["history"]
    assert HistorySettings(most=1_000_000) == HistorySettings.model_validate(example)
    assert example.keys() == {field.alias or name for name, field in HistorySettings.model_fields.items()}
