"""Rendering of the chart into objects, and its error texts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import helm_python
import yaml

from tests.support.process import ROOT

CHART = ROOT / "helm" / "runward"
RELEASE, NAMESPACE = "demo", "prod"
NAME = "demo-runward"

Object: TypeAlias = dict[str, Any]
Values: TypeAlias = Mapping[str, Any]


class _StrictLoader(yaml.CSafeLoader):
    """As Kubernetes: a key that stands twice in a mapping is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class Release:
    """Objects of a rendered release."""

    objects: tuple[Object, ...]
    notes: str

    def of(self, kind: str, name: str | None = None) -> Object:
        """Return the one object of a kind, or of a kind and name."""
        found = [o for o in self.objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
        assert len(found) == 1, [o["metadata"]["name"] for o in found]
        return found[0]

    def kinds(self) -> list[str]:
        """Return the kinds of all objects except hooks, sorted."""
        return sorted(o["kind"] for o in self.objects if not hook(o))

    def workload(self) -> Object:
        """The Deployment or StatefulSet."""
        return self.of("StatefulSet" if "StatefulSet" in self.kinds() else "Deployment")

    def pod(self) -> Object:
        """The spec of the gateway's pod."""
        spec: Object = self.workload()["spec"]["template"]["spec"]
        return spec

    def config(self) -> Object:
        """The gateway's configuration."""
        name = self.workload()["metadata"]["name"]
        config: Object = yaml.safe_load(self.of("ConfigMap", name)["data"]["gateway.yaml"])
        return config

    def pods(self) -> Iterator[tuple[str, Object, Object]]:
        """Each pod that the release makes: its owner's kind and name, its metadata and its spec."""
        for o in self.objects:
            label = f"{o['kind']}/{o['metadata']['name']}"
            if o["kind"] == "Pod":
                yield label, o["metadata"], o["spec"]
            elif o["kind"] in {"Deployment", "StatefulSet", "Job"}:
                yield label, o["spec"]["template"]["metadata"], o["spec"]["template"]["spec"]


def hook(o: Object) -> str | None:
    """Return the hook annotation of the object."""
    when: str | None = o["metadata"].get("annotations", {}).get("helm.sh/hook")
    return when


@functools.cache
def _chart(path: Path) -> helm_python.Chart:
    return helm_python.Chart.load(path)


def render(values: Values, *, name: str = RELEASE, namespace: str = NAMESPACE, path: Path = CHART) -> Release:
    """Render a release, to be read only. Raises helm_python.HelmError where the chart refuses the values."""
    return _render(json.dumps(values), name, namespace, path)


@functools.cache
def _render(values: str, name: str, namespace: str, path: Path) -> Release:
    texts = _chart(path).render(json.loads(values), name=name, namespace=namespace)
    notes = next(text for place, text in texts.items() if place.endswith("NOTES.txt"))
    return Release(tuple(_documents(texts)), notes)


def _documents(texts: Mapping[str, str]) -> Iterator[Object]:
    for place, text in sorted(texts.items()):
        if place.endswith((".yaml", ".yml")):
            yield from (document for document in yaml.load_all(text, _StrictLoader) if document)


def refusal(values: Values) -> str:
    """Return Helm's error for invalid values; empty if they are valid."""
    try:
        render(values)
    except helm_python.HelmError as error:
        return str(error)
    return ""


def sentences(values: Values) -> list[str]:
    """Return the error texts of the templates."""
    text = refusal(values)
    found = re.search(r"\(runward/templates/refusals\.yaml[^\n]*:\s*\n(.*)", text, re.DOTALL)
    return found[1].strip().splitlines() if found else [text]


def example(name: str) -> Object:
    """Return the values of an example, parsed as Helm does."""
    text = (CHART / "ci" / f"{name}-values.yaml").read_text()
    values: Object = helm_python.values_from_yaml(text)
    return values


def merged(*layers: Values) -> Object:
    """Return merged values, as Helm merges several files."""
    result: Object = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(below, dict) and isinstance(value, Mapping)
            result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result
