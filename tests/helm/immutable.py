"""Immutable fields of a release; run as a program, it records those of this version."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.helm.cases import CASES
from tests.helm.chart import CHART, Object, Release, render

RELEASED = Path(__file__).parent / "released"
"""One file for each released version of the chart: before a release, `python -m tests.helm.immutable` writes it."""
RECORDED = ("minimal", "three replicas")
_MUTABLE_IN_A_STATEFULSET = {
    "replicas",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "ordinals",
}


def immutable(release: Release) -> Object:
    """Return the fields that Kubernetes does not allow to change, by kind and name."""
    found: Object = {}
    for o in release.objects:
        label = f"{o['kind']}/{o['metadata']['name']}"
        if o["kind"] == "Deployment":
            found[label] = {"selector": o["spec"]["selector"]}
        elif o["kind"] == "StatefulSet":
            found[label] = {key: value for key, value in o["spec"].items() if key not in _MUTABLE_IN_A_STATEFULSET}
        elif o["kind"] == "Service":
            found[label] = {"clusterIP": o["spec"].get("clusterIP")}
    return found


def recorded() -> Object:
    """Return the record of this version."""
    return {case: immutable(render(CASES[case])) for case in RECORDED}


if __name__ == "__main__":
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    (RELEASED / f"{version}.json").write_text(json.dumps(recorded(), indent=2) + "\n")
