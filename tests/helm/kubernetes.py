"""Strict schemas of Kubernetes by minor version, from the package kubernetes-validate."""

from __future__ import annotations

import functools
import json
from importlib.resources import files

import jsonschema  # type: ignore[import-untyped]  # it comes without types
from kubernetes_validate.utils import all_versions
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012, SchemaRegistry

from tests.helm.chart import Object

_SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"


def minors(oldest: tuple[int, int]) -> list[str]:
    """Return the versions with schemas in ascending order, such as 1.30.0."""
    return [version for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= oldest]


def complaints(o: Object, version: str) -> list[str]:
    """Return the schema errors of an object in that version."""
    return list(_complaints(json.dumps(o, sort_keys=True), version))


@functools.cache
def _complaints(text: str, version: str) -> tuple[str, ...]:
    """Return cached schema errors, as most sets of values render most objects alike."""
    o = json.loads(text)
    group, _, short = o["apiVersion"].rpartition("/")
    name = "-".join(filter(None, (o["kind"].lower(), group.partition(".")[0], short)))
    validator = _validator(version, name)
    if validator is None:
        return (f"{version} has no {o['kind']} of {o['apiVersion']}",)
    return tuple(f"{version} {error.json_path}: {error.message}" for error in validator.iter_errors(o))


@functools.cache
def _validator(version: str, name: str) -> jsonschema.Draft202012Validator | None:
    path = _SCHEMAS / f"v{version}-local-strict" / f"{name}.json"
    if not path.is_file():
        return None
    return jsonschema.Draft202012Validator(json.loads(path.read_bytes()), registry=_definitions(version))


@functools.cache
def _definitions(version: str) -> SchemaRegistry:
    schema = json.loads((_SCHEMAS / f"v{version}-local-strict" / "_definitions.json").read_bytes())
    empty: SchemaRegistry = Registry()
    registry: SchemaRegistry = empty.with_resource("_definitions.json", Resource.from_contents(schema, DRAFT202012))
    return registry.crawl()
