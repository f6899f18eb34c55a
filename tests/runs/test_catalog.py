"""Finding a workflow: by an alias or by the provider's own name, within a client's scope, and never outside it."""

from __future__ import annotations

import pytest

from gateway.access.clients import Client
from gateway.problems import Problem
from gateway.runs.catalog import Catalog, Workflow
from tests.runs.scripted import World

WORLD = World()
TRIAGE, STUDIO = WORLD.layer(alias="support-triage"), WORLD.studio(alias="triage-studio")
ODD = WORLD.studio(alias="layer/odd")  # an alias that looks like a name of the provider's
CATALOG = Catalog({w.alias: w for w in (TRIAGE, STUDIO, ODD)}, {w.provider.name: w.provider for w in (TRIAGE, STUDIO)})
ANYTHING = ("*", "*/*")


def found(name: str, *scope: str) -> Workflow | str:
    """What a client with this scope gets: the workflow, or the code of its refusal."""
    try:
        return CATALOG.find(name, Client("one", scope))
    except Problem as problem:
        return problem.code


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("support-triage", ("support-*",), TRIAGE),
        ("support-triage", ("*",), TRIAGE),
        ("triage-studio", ("support-*", "triage-studio"), STUDIO),
        ("support-triage", ("triage-*",), "forbidden"),
        ("support-triage", (), "forbidden"),
        ("support-triage", ("layer/*",), "forbidden"),
        ("Support-Triage", ANYTHING, "workflow_not_found"),
        ("nothing", ANYTHING, "workflow_not_found"),
        ("", ANYTHING, "workflow_not_found"),
        ("support-triage ", ANYTHING, "workflow_not_found"),
        ("*", ANYTHING, "workflow_not_found"),
        ("layer/odd", ANYTHING, ODD),
        ("other/x", ANYTHING, "workflow_not_found"),
        ("/x", ANYTHING, "workflow_not_found"),
        ("layer", ANYTHING, "workflow_not_found"),
        ("layer/", ANYTHING, "workflow_not_found"),
        ("layer/.", ANYTHING, "workflow_not_found"),
        ("layer/..", ANYTHING, "workflow_not_found"),
        ("layer/x", ("*",), "forbidden"),
        ("layer/x", ("studio/*",), "forbidden"),
        ("layer/x", ("layer/y*",), "forbidden"),
    ],
)
def test_a_client_finds_what_is_in_its_scope(name: str, scope: tuple[str, ...], expected: Workflow | str) -> None:
    """R78: 403 for what others may run, 404 for what nobody may."""
    assert expected is found(name, *scope) or expected == found(name, *scope)


@pytest.mark.parametrize("own_name", ["x", "a/b", "../x", "%2e%2e", "a?b#c", "ü", "a b", "...", "a\r\nb", "\x00"])
def test_a_providers_own_name_is_taken_as_it_is(own_name: str) -> None:
    """R61: it becomes one segment of a path later; here it is only a name."""
    workflow = found(f"layer/{own_name}", "layer/*")
    assert isinstance(workflow, Workflow)
    assert (own_name, "layer", None, None) == (workflow.name, workflow.provider.name, workflow.label, workflow.version)


def test_own_names_are_one_to_metrics_and_limits() -> None:
    """R93: clients choose them, so they must not become labels."""
    aliases = {workflow.alias for n in range(100) if isinstance(workflow := found(f"layer/{n}", "layer/*"), Workflow)}
    assert {"layer/*"} == aliases


def test_an_own_name_has_none_of_an_aliass_privileges() -> None:
    """Whether a run may be repeated is said of an alias; the same workflow by its own name was not spoken of."""
    workflow = found("layer/layer-name", "layer/*")
    assert isinstance(workflow, Workflow)
    assert (False, ()) == (workflow.repeatable, workflow.fallbacks)


@pytest.mark.parametrize(("label", "version", "pinned"), [(None, None, False), ("a", None, True), (None, 1, True)])
def test_a_workflow_is_pinned_by_a_label_or_a_version(label: str | None, version: int | None, *, pinned: bool) -> None:
    assert pinned is WORLD.layer(label=label, version=version).pinned


@pytest.mark.parametrize("name", ["support-triage", "layer/x", "studio/a/b"])
def test_a_kept_run_is_found_by_what_its_workflow_is_known_as(name: str) -> None:
    """R44: whatever name led to it."""
    workflow = CATALOG.find(name, Client("one", ANYTHING))
    assert name == workflow.known_as
    assert workflow == CATALOG.known(workflow.known_as, workflow.provider.name)


def test_a_provider_that_is_gone_has_no_api() -> None:
    """A kept answer may be older than the configuration."""
    assert "" == CATALOG.api("gone")


def test_a_provider_can_be_asked_about_runs_whose_workflow_is_gone() -> None:
    """R48: metrics and limits know that by the provider alone; of a provider that is gone there is nothing to ask."""
    anything = CATALOG.at("layer")
    assert anything is not None
    assert ("layer/*", TRIAGE.provider, None) == (anything.alias, anything.provider, CATALOG.at("other"))
