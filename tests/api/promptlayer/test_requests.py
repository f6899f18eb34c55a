"""Valid and invalid requests of PromptLayer's API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from yarl import URL

from gateway.api.promptlayer.requests import RunWorkflow, query_boolean, query_integer, workflow_name
from gateway.http.body import parse_json_body
from gateway.http.request import Request
from gateway.json import strict_json
from gateway.problems import Problem

if TYPE_CHECKING:
    from providers.contract import JsonValue


def fake_request(tail: str = "", query: str = "") -> Request:
    return cast("Request", SimpleNamespace(path_param=tail, query=URL("/?" + query, encoded=True).query))


def parse_run(body: JsonValue) -> RunWorkflow:
    return parse_json_body(RunWorkflow, strict_json.write(body))


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"input_variables": []}, "/input_variables"),
        ({"input_variables": "x"}, "/input_variables"),
        ({"metadata": {"n": 1}}, "/metadata/n"),
        ({"metadata": {"n": None}}, "/metadata/n"),
        ({"metadata": dict.fromkeys(map(str, range(1001)), "")}, "/metadata"),
        ({"workflow_label_name": 7}, "/workflow_label_name"),
        ({"workflow_version_number": "7"}, "/workflow_version_number"),
        ({"workflow_version_number": True}, "/workflow_version_number"),
        ({"workflow_version_number": 0}, "/workflow_version_number"),
        ({"workflow_version_number": 1, "workflow_label_name": "prod"}, ""),
        ({"return_all_outputs": "yes"}, "/return_all_outputs"),
        ({"callback_url": 7}, "/callback_url"),
        ({"channel_name_suffix": ""}, "/channel_name_suffix"),
        ({"channel_name_suffix": 257 * "x"}, "/channel_name_suffix"),
    ],
)
def test_a_wrong_body_is_refused(more: dict[str, JsonValue], where: str) -> None:
    """By the types in the documentation of `POST /workflows/{name}/run`."""
    with pytest.raises(Problem) as refused:
        parse_run(more)
    assert ("invalid_request", [where]) == (refused.value.code, [error.pointer for error in refused.value.errors])


def test_what_sdks_send_is_accepted() -> None:
    """Null equals absence, and undocumented members are ignored, as at PromptLayer."""
    nothing = dict.fromkeys(RunWorkflow.model_fields)
    assert parse_run({}) == parse_run(nothing) == parse_run({"api_key": "x", "tags": []})
    assert (None, None) == parse_run({}).pin
    full = parse_run({"workflow_label_name": "prod", "input_variables": {"a": [2**70]}, "channel_name_suffix": "a71d"})
    assert (("prod", None), {"a": [2**70]}, "a71d") == (full.pin, full.input_variables, full.channel_name_suffix)


@pytest.mark.parametrize(
    ("tail", "name"),
    [("a", "a"), ("a/b", "a/b"), ("a%2fb", "a/b"), ("a%20%C3%BC", "a ü"), ("3", "3"), ("a+b", "a+b"), ("%252F", "%2F")],
)
def test_a_name_is_decoded_once(tail: str, name: str) -> None:
    assert name == workflow_name(fake_request(tail))


@pytest.mark.parametrize("tail", ["", "%FF", "%ED%A0%80", "\ud800", 513 * "x"])
def test_what_can_not_be_a_name_is_not_found(tail: str) -> None:
    with pytest.raises(Problem) as refused:
        workflow_name(fake_request(tail))
    assert "workflow_not_found" == refused.value.code


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.0", "٣", "9" * 20, "101"])
def test_a_number_of_the_query_is_one(text: str) -> None:
    with pytest.raises(Problem) as refused:
        query_integer(fake_request(query=f"n={text}"), "n", maximum=100)
    assert ["?n"] == [error.pointer for error in refused.value.errors]


def test_numbers_and_their_defaults() -> None:
    assert (7, 30) == (query_integer(fake_request(query="n=7"), "n"), query_integer(fake_request(), "n", 30))
    with pytest.raises(Problem):
        query_integer(fake_request(), "n")


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("", False),
        ("c=true", True),
        ("c=True", True),
        ("c=1", True),
        ("c=false", False),
        ("c=0", False),
        ("c=OFF", False),
    ],
)
def test_a_choice_of_the_query(query: str, *, chosen: bool) -> None:
    assert chosen == query_boolean(fake_request(query=query), "c")


@pytest.mark.parametrize("query", ["c=", "c=maybe"])
def test_a_choice_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(Problem) as refused:
        query_boolean(fake_request(query=query), "c")
    assert ["?c"] == [error.pointer for error in refused.value.errors]
