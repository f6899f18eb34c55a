"""docs/runs.md names every parameter of `GET /runs`, and the bounds that hold."""

from __future__ import annotations

import json
import re

from gateway.api.openapi.list_parameters import list_parameters
from gateway.api.run_request import MAX_TAGS, RunRequest
from gateway.api.run_search import MAX_LIMIT
from gateway.http.body import parse_json_body
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


def test_the_example_is_a_request() -> None:
    request, page, *_ = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert 2 == len(parse_json_body(RunRequest, request.encode()).tags)
    assert {"runs", "next", "complete"} == set(json.loads(page))
