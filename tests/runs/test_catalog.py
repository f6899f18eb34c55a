"""Catalog look-up of workflows by alias or by the provider's name, within a client's scope."""

from __future__ import annotations

import pytest

from gateway.auth.client import Client
from gateway.errors import GatewayError
from gateway.runs.catalog import Catalog, Workflow
from tests.runs.executor_harness import ExecutorHarness

HARNESS = ExecutorHarness()
TRIAGE, STUDIO = HARNESS.layer(alias="support-triage"), HARNESS.studio(alias="triage-studio")
ODD = HARNESS.studio(alias="layer/odd")  # an alias that looks like a name of the provider's
CATALOG = Catalog({w.alias: w for w in (TRIAGE, STUDIO, ODD)}, {w.provider.name: w.provider for w in (TRIAGE, STUDIO)})
ANYTHING = ("*", "*/*")


def found(name: str, *scope: str) -> Workflow | str:
    """Return the workflow for this scope, or the code of the refusal."""
    try:
        return CATALOG.find(name, Client("one", scope))
    except GatewayError as problem:
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
    """R78: 403 for workflows of other clients, 404 for unknown ones."""
    assert expected is found(name, *scope) or expected == found(name, *scope)


@pytest.mark.parametrize("native_name", ["x", "a/b", "../x", "%2e%2e", "a?b#c", "ü", "a b", "...", "a\r\nb", "\x00"])
def test_the_name_of_a_workflow_at_the_provider_is_used_unchanged(native_name: str) -> None:
    """R61: the adapter encodes it as a path segment."""
    workflow = found(f"layer/{native_name}", "layer/*")
    assert isinstance(workflow, Workflow)
    assert (native_name, "layer", None, None) == (
        workflow.name,
        workflow.provider.name,
        workflow.label,
        workflow.version,
    )


def test_unconfigured_workflows_share_one_alias_in_metrics_and_limits() -> None:
    """R93: clients choose these names, so they must not become labels."""
    aliases = {workflow.alias for n in range(100) if isinstance(workflow := found(f"layer/{n}", "layer/*"), Workflow)}
    assert {"layer/*"} == aliases


def test_an_unconfigured_workflow_has_no_settings_of_an_alias() -> None:
    """`repeatable` belongs to an alias, not to the provider's name."""
    workflow = found("layer/layer-name", "layer/*")
    assert isinstance(workflow, Workflow)
    assert (False, ()) == (workflow.repeatable, workflow.fallbacks)


@pytest.mark.parametrize(("label", "version", "pinned"), [(None, None, False), ("a", None, True), (None, 1, True)])
def test_a_workflow_is_pinned_by_a_label_or_a_version(label: str | None, version: int | None, *, pinned: bool) -> None:
    assert pinned is HARNESS.layer(label=label, version=version).pinned


@pytest.mark.parametrize("name", ["support-triage", "layer/x", "studio/a/b"])
def test_the_workflow_of_a_stored_run_is_found_by_its_catalog_key(name: str) -> None:
    """R44: independent of the name in the request."""
    workflow = CATALOG.find(name, Client("one", ANYTHING))
    assert name == workflow.catalog_key
    assert workflow == CATALOG.find_stored(workflow.catalog_key, workflow.provider.name)


def test_a_removed_provider_has_no_api() -> None:
    """A stored response may be older than the configuration."""
    assert "" == CATALOG.api_of("gone")


def test_a_provider_can_be_polled_for_runs_of_removed_workflows() -> None:
    """R48: under the provider's name in metrics and limits; not for a removed provider."""
    anything = CATALOG.placeholder_for("layer")
    assert anything is not None
    assert ("layer/*", TRIAGE.provider, None) == (anything.alias, anything.provider, CATALOG.placeholder_for("other"))
