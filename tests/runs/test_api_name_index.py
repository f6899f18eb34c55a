"""Workflow aliases: names in the providers' own APIs, and their selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from gateway.auth.client import Client
from gateway.errors import GatewayError
from gateway.runs.api_name_index import NO_PIN, VersionPin
from gateway.runs.catalog import Catalog, Provider, Upstream, Workflow
from providers.contract import Adapter

LAYER = Provider("layer", cast("Adapter", None), cast("Upstream", None), "promptlayer")
STUDIO = Provider("studio", cast("Adapter", None), cast("Upstream", None), "prompt_studio")
UNRESTRICTED_CLIENT = Client("one", ("*",))


def workflow(
    alias: str,
    name: str,
    provider: Provider = LAYER,
    *,
    label: str | None = None,
    api_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Workflow:
    return Workflow(alias, provider, name, label=label, api_names=api_names or {})


def catalog(*workflows: Workflow) -> Catalog:
    return Catalog({w.alias: w for w in workflows}, {"layer": LAYER, "studio": STUDIO})


def found(
    known: Catalog,
    name: str,
    *,
    api: str = "promptlayer",
    client: Client = UNRESTRICTED_CLIENT,
    pin: VersionPin = NO_PIN,
) -> str:
    """Return the alias found, or the code of the problem."""
    try:
        return known.find_for_api("promptlayer" if api == "promptlayer" else "prompt_studio", name, client, pin).alias
    except GatewayError as problem:
        return problem.code


def test_a_workflow_is_found_by_its_alias_and_its_provider_name_in_both_apis() -> None:
    known = catalog(workflow("triage", "My triage/v2"), workflow("reply", "dep_1", STUDIO))
    for api in ("promptlayer", "prompt_studio"):
        assert ["triage", "triage", "reply", "reply"] == [
            found(known, name, api=api) for name in ("triage", "My triage/v2", "reply", "dep_1")
        ]
    assert "workflow_not_found" == found(known, "nothing")


def test_configured_names_replace_the_provider_name_in_that_api_only() -> None:
    known = catalog(workflow("triage", "own", api_names={"promptlayer": ("old name", "4711")}))
    assert ["triage", "triage", "workflow_not_found"] == [found(known, n) for n in ("old name", "4711", "own")]
    assert ["workflow_not_found", "triage"] == [found(known, n, api="prompt_studio") for n in ("old name", "own")]


def test_a_workflow_has_a_number_that_finds_it_and_is_the_same_everywhere() -> None:
    one, other = catalog(workflow("triage", "a")), catalog(workflow("reply", "b"), workflow("triage", "a"))
    number = one.workflow_number(workflow("triage", "a"))
    assert number == other.workflow_number(workflow("triage", "a"))
    assert number is not None
    assert 0 < number < 2**31
    assert "triage" == found(other, str(number))


def test_a_configured_name_takes_precedence_over_the_number_of_another_workflow() -> None:
    number = str(catalog(workflow("triage", "a")).workflow_number(workflow("triage", "a")))
    assert "zebra" == found(
        catalog(workflow("triage", "a"), workflow("zebra", "z", api_names={"promptlayer": (number,)})), number
    )


def test_a_label_chooses_among_workflows_that_share_a_name() -> None:
    known = catalog(workflow("prod", "own", label="production"), workflow("beta", "own", label="beta"))
    assert "beta" == found(known, "own", pin=("beta", None))
    assert "workflow_not_found" == found(known, "own")
    assert "workflow_not_found" == found(known, "own", pin=("other", None))


def test_a_workflow_without_a_label_takes_precedence() -> None:
    known = catalog(workflow("prod", "own", label="production"), workflow("plain", "own"))
    assert ["plain", "prod", "plain"] == [
        found(known, "own", pin=pin) for pin in (NO_PIN, ("production", None), (None, 3))
    ]


def test_in_each_api_its_own_providers_workflow_is_meant() -> None:
    """A configured name counts as the API's own."""
    known = catalog(workflow("a", "triage"), workflow("b", "triage", STUDIO))
    assert ["a", "b"] == [found(known, "triage", api=api) for api in ("promptlayer", "prompt_studio")]
    assert "forbidden" == found(known, "triage", client=Client("two", ("b",)))
    named = catalog(workflow("a", "triage"), workflow("b", "x", STUDIO, api_names={"promptlayer": ("triage",)}))
    assert "workflow_not_found" == found(named, "triage")


def test_only_what_a_client_may_run_is_chosen_from() -> None:
    known = catalog(workflow("prod", "own", label="production"), workflow("beta", "own", label="beta"))
    assert "beta" == found(known, "own", client=Client("two", ("be*",)))
    assert "forbidden" == found(known, "own", client=Client("three", ("x*",)))
    assert "forbidden" == found(known, "prod", client=Client("three", ("x*",)))


@pytest.mark.parametrize(
    ("api", "name", "expected"),
    [
        ("promptlayer", "any name/at all", "layer/*"),
        ("prompt_studio", "any name/at all", "workflow_not_found"),
        ("promptlayer", "..", "workflow_not_found"),
    ],
)
def test_what_is_not_configured_is_found_where_the_client_may_run_it_directly(
    api: str, name: str, expected: str
) -> None:
    assert expected == found(catalog(), name, api=api, client=Client("one", ("layer/*",)))
