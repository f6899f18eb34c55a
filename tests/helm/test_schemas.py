"""Every object is valid by the schemas of every supported Kubernetes version."""

from __future__ import annotations

import pytest
import yaml

from tests.helm.cases import CASES
from tests.helm.chart import CHART, Object, render
from tests.helm.custom import API_GROUPS, needs_types, refused
from tests.helm.kubernetes import complaints, minors

OLDEST = (1, 30)
MINORS = minors(OLDEST)


def _own(o: Object) -> bool:
    """Return True if the kind is one of Kubernetes itself."""
    return o["apiVersion"].partition("/")[0] not in API_GROUPS


def test_the_supported_minors_are_those_of_the_chart() -> None:
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert ">={}.{}.0-0".format(*OLDEST) == wanted
    assert {"1.30", "1.37"} <= {".".join(minor.split(".")[:2]) for minor in MINORS}


@pytest.mark.parametrize("case", CASES)
def test_every_object_fits_the_strict_schema_of_every_supported_minor(case: str) -> None:
    own = [o for o in render(CASES[case]).objects if _own(o)]
    assert [] == [complaint for o in own for minor in MINORS for complaint in complaints(o, minor)]


def test_the_schemas_refuse_what_is_wrong() -> None:
    """Negative control: unknown field, wrong type, unknown version."""
    service = render({}).of("Service", "demo-runward")
    for wrong in ({"bogus": 1}, {"spec": {"ports": "8080"}}, {"apiVersion": "v1beta1"}):
        assert [] != complaints({**service, **wrong}, MINORS[-1]), wrong


@needs_types
def test_every_custom_resource_has_the_fields_of_its_operator() -> None:
    """ServiceMonitor, PodMonitor, PrometheusRule, ScaledObject, HTTPRoute, ExternalSecret."""
    custom = [o for values in CASES.values() for o in render(values).objects if not _own(o)]
    assert set(API_GROUPS) == {o["apiVersion"].partition("/")[0] for o in custom}
    assert "" == refused(custom)


@needs_types
def test_the_operators_types_refuse_what_is_wrong() -> None:
    """Negative control: unknown field and wrong type."""
    monitor = render(CASES["production"]).of("ServiceMonitor")
    wrong = [{**monitor, "spec": {**monitor["spec"], **more}} for more in ({"bogus": 1}, {"endpoints": "ops"})]
    said = refused(wrong)
    assert "'\"bogus\"' does not exist" in said
    assert "'string' is not assignable to type 'IEndpoint[]'" in said
