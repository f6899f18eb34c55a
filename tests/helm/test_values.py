"""values.schema.json accepts valid values and rejects all others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it comes without types
import pytest
import yaml

from tests.helm.cases import CASES, MINIMAL
from tests.helm.chart import CHART, Object, merged, refusal

DEFAULTS: Object = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Object = yaml.safe_load((CHART / "values.schema.json").read_text())

WRONG: dict[str, tuple[Object, str]] = {
    "a value that is misspelled": ({"replica": 3}, "'replica' not allowed"),
    "a value within a section": ({"service": {"prot": 80}}, "'prot' not allowed"),
    "a setting of the gateway": ({"config": {"server": {"prot": 8080}}}, "'prot' not allowed"),
    "a section of the gateway": ({"config": {"sever": {}}}, "'sever' not allowed"),
    "replicas as text": ({"replicas": "two"}, "'/replicas'"),
    "replicas below 0": ({"replicas": -1}, "'/replicas'"),
    "workers of 0": ({"workers": 0}, "'/workers'"),
    "a switch as text": ({"ingress": {"enabled": "yes"}}, "'/ingress/enabled'"),
    "a port that there is not": ({"service": {"port": 65536}}, "'/service/port'"),
    "a port of the gateway that there is not": ({"config": {"server": {"port": 70000}}}, "'/config/server/port'"),
    "a type of service that there is not": ({"service": {"type": "ExternalName"}}, "'/service/type'"),
    "a digest that is none": ({"image": {"digest": "sha256:abc"}}, "'/image/digest'"),
    "a tag that is none": ({"image": {"tag": "a b"}}, "'/image/tag'"),
    "a policy that there is not": ({"image": {"pullPolicy": "Sometimes"}}, "'/image/pullPolicy'"),
    "a volume of many pods": ({"persistence": {"accessMode": "ReadWriteMany"}}, "'/persistence/accessMode'"),
    "a size that is none": ({"persistence": {"size": "much"}}, "'/persistence/size'"),
    "a label that is none": ({"commonLabels": {"team": "a b"}}, "'/commonLabels/team'"),
    "a number as an annotation": ({"podAnnotations": {"a": 1}}, "'/podAnnotations/a'"),
    "a stop time of 0": ({"terminationGracePeriodSeconds": 0}, "'/terminationGracePeriodSeconds'"),
    "a duration that is none": ({"config": {"server": {"drain": "soon"}}}, "'/config/server/drain'"),
    "a rate that is none": (
        {"config": {"providers": {"promptlayer": {"limits": {"rate": "fast"}}}}},
        "'/config/providers/promptlayer/limits/rate'",
    ),
    "an environment without a name": ({"extraEnv": [{"value": "x"}]}, "'/extraEnv/0'"),
    "a peer that is none": ({"networkPolicy": {"storeTo": [{"pods": {}}]}}, "'pods' not allowed"),
    "a peer of nothing": ({"networkPolicy": {"storeTo": [{}]}}, "'/networkPolicy/storeTo/0'"),
    "a liveness probe of its own": ({"probes": {"liveness": {"httpGet": {}}}}, "'httpGet' not allowed"),
    "an address that would break a dashboard": (
        {"dashboards": {"consoleUrl": 'https://a"b'}},
        "'/dashboards/consoleUrl'",
    ),
    "an objective that leaves no budget": (
        {"prometheusRule": {"objectives": {"gateway": 100}}},
        "'/prometheusRule/objectives/gateway'",
    ),
    "a replica count below 1 for a scaler": ({"autoscaling": {"minReplicas": 0}}, "'/autoscaling/minReplicas'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_value_that_cannot_be_is_refused_by_its_name(case: str) -> None:
    values, told = WRONG[case]
    assert told in refusal(merged(MINIMAL, values))


@pytest.mark.parametrize("case", CASES)
def test_values_that_can_be_are_taken(case: str) -> None:
    assert "" == refusal(CASES[case])


def test_the_defaults_and_the_schema_have_the_same_names() -> None:
    """Every value is in values.yaml with its default, and in the schema."""
    assert {*DEFAULTS, "global"} == set(SCHEMA["properties"])
    for name, node in SCHEMA["properties"].items():
        if name != "config" and "properties" in node:
            assert set(DEFAULTS[name]) == set(node["properties"]), name
    jsonschema.validate(DEFAULTS, SCHEMA)


def test_every_object_of_the_schema_says_which_names_it_takes() -> None:
    """Objects without properties are Kubernetes types or free mappings; this is the complete list."""
    free = {way.rsplit("/", 1)[-1] for way, node in _objects(SCHEMA, "") if not {"properties", "required"} & set(node)}
    loose = {way for way, node in _objects(SCHEMA, "") if "properties" in node and "additionalProperties" not in node}
    assert {"/$defs/named/items"} == loose
    assert set() == free & {"service", "image", "config", "networkPolicy", "test", "check", "keda", "autoscaling"}


def _objects(node: Any, way: str) -> Iterator[tuple[str, Object]]:
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from _objects(child, f"{way}/{index}")
    elif isinstance(node, dict):
        if node.get("type") == "object":
            yield way, node
        for key, child in node.items():
            yield from _objects(child, way if key == "properties" else f"{way}/{key}")
