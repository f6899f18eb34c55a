"""Upgrades are accepted by Kubernetes, and replace pods only if necessary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gateway.app.reload import restart_only_settings
from gateway.settings import Settings, load
from tests.helm.cases import CASES, MINIMAL, SHARED
from tests.helm.chart import CHART, Object, Release, merged, render
from tests.helm.immutable import RECORDED, RELEASED, immutable, recorded


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the chart with later versions of chart and application."""
    copy = tmp_path_factory.mktemp("later") / "runward"
    shutil.copytree(CHART, copy)
    chart = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump({**chart, "version": "9.9.9+b.1", "appVersion": "9.9.9"}))
    return copy


@pytest.mark.parametrize("case", CASES)
def test_a_later_version_changes_nothing_that_cannot_be_changed(case: str, later: Path) -> None:
    before, after = render(CASES[case]), render(CASES[case], path=later)
    assert before != after
    assert immutable(before) == immutable(after)


@pytest.mark.parametrize("version", sorted(path.stem for path in RELEASED.glob("*.json")))
def test_this_version_follows_every_version_before(version: str) -> None:
    """A release with different immutable fields could not be upgraded."""
    before: Object = json.loads((RELEASED / f"{version}.json").read_text())
    assert set(RECORDED) == set(before)
    assert before == recorded()


def test_other_labels_and_annotations_change_nothing_that_cannot_be_changed() -> None:
    for values in (MINIMAL, SHARED):
        more = merged(values, {"commonLabels": {"a": "b"}, "podLabels": {"c": "d"}, "podAnnotations": {"e": "f"}})
        assert immutable(render(values)) == immutable(render(more))


LIVE: list[Object] = [
    {"workflows": {"more": {"provider": "promptlayer"}}},
    {"clients": {"checkout": {"limits": {"rate": "5/s"}}}},
    {"providers": {"promptlayer": {"limits": {"rate": "5/s"}}}},
    {"callbacks": {"allow": ["10.0.0.0/8"]}},
    {"retries": {"attempts": 2}},
    {"breaker": {"failures": 5}},
    {"polling": {"max": "30s"}},
    {"content": {"encrypt": {"keys": []}}},
    {"logs": {"level": "debug"}},
    {"store": {"retention": "1d"}},
]
RESTART: list[Object] = [
    {"server": {"max_in_flight": 10}},
    {"server": {"drain": "20s"}},
    {"logs": {"format": "json"}},
    {"store": {"lease": "60s"}},
    {"store": {"url": "sqlite:////var/lib/runward/other.db"}},
]


@pytest.mark.parametrize("change", [*LIVE, *RESTART], ids=str)
def test_pods_are_replaced_for_what_needs_a_restart_and_for_nothing_else(change: Object, tmp_path: Path) -> None:
    """The list of these settings is the gateway's own."""
    before, after = render(MINIMAL), render(merged(MINIMAL, {"config": change}))
    assert before.config() != after.config()
    replaced = before.workload()["spec"]["template"] != after.workload()["spec"]["template"]
    assert bool(list(restart_only_settings(*(_load(release, tmp_path) for release in (before, after))))) == replaced


def _load(release: Release, folder: Path) -> Settings:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(release.config()))
    return load(path, {}, overrides={"providers": {"promptlayer": {"api_key": "a-key-for-tests"}}})
