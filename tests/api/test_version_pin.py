"""Labels and versions are applied or refused: every combination of pinned and requested ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gateway.api.version_pin import check_pin
from gateway.problems import Problem
from gateway.runs.api_name_index import NO_PIN, VersionPin
from gateway.runs.catalog import Provider, Upstream, Workflow
from providers.contract import Adapter


def workflow(pin: VersionPin, *, versions: bool = True) -> Workflow:
    adapter = cast("Adapter", SimpleNamespace(supports_versions=versions))
    return Workflow("w", Provider("p", adapter, cast("Upstream", None)), "w", label=pin[0], version=pin[1])


@pytest.mark.parametrize("pinned", [NO_PIN, ("prod", None), (None, 3)])
@pytest.mark.parametrize("asked", [NO_PIN, ("prod", None), ("dev", None), (None, 3), (None, 4)])
def test_what_is_pinned_accepts_itself_alone(pinned: VersionPin, asked: VersionPin) -> None:
    if pinned == NO_PIN or asked in {NO_PIN, pinned}:
        check_pin(workflow(pinned), asked)
        return
    with pytest.raises(Problem) as refused:
        check_pin(workflow(pinned), asked)
    [error] = refused.value.errors
    assert ("/label" if asked[0] else "/version") == error.pointer
    assert "pins this workflow" in error.detail


def test_a_provider_without_versions_refuses_them_with_the_callers_pointers() -> None:
    check_pin(workflow(NO_PIN, versions=False), NO_PIN)
    with pytest.raises(Problem) as refused:
        check_pin(workflow(NO_PIN, versions=False), (None, 3), ("/l", "/v"))
    assert ["/v"] == [error.pointer for error in refused.value.errors]
