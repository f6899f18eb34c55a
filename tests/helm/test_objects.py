"""Consistency of the objects of a release: selectors, names, labels, scalers, routes."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.helm.cases import CASES, MINIMAL, SHARED
from tests.helm.chart import NAME, NAMESPACE, Object, Release, merged, render

each_case = pytest.mark.parametrize("case", CASES)


def _selected(release: Release, labels: Object) -> set[str]:
    """Return the pods that a label selector matches."""
    assert labels
    return {label for label, meta, _ in release.pods() if labels.items() <= meta["labels"].items()}


def _gateway(release: Release) -> set[str]:
    workload = release.workload()
    return {f"{workload['kind']}/{workload['metadata']['name']}"}


@each_case
def test_every_selector_finds_the_gateways_pods_and_no_others(case: str) -> None:
    release = render(CASES[case])
    found = 0
    for o in release.objects:
        selector = {
            "Service": lambda spec: spec["selector"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
        }.get(o["kind"])
        if selector is not None:
            assert _gateway(release) == _selected(release, selector(o["spec"])), o["kind"]
            found += 1
    assert found >= 3


@each_case
def test_every_network_policy_selects_the_pods_of_its_name(case: str) -> None:
    release = render(CASES[case])
    policies = [o for o in release.objects if o["kind"] == "NetworkPolicy"]
    selected = [_selected(release, policy["spec"]["podSelector"]["matchLabels"]) for policy in policies]
    assert sorted(map(sorted, selected)) == sorted([label] for label, _, _ in release.pods()) or not policies


@each_case
def test_selectors_have_no_label_that_a_later_version_could_change(case: str) -> None:
    names = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    assert names == set(render(CASES[case]).workload()["spec"]["selector"]["matchLabels"])


@each_case
def test_every_object_is_in_the_release_and_has_its_labels(case: str) -> None:
    release = render(CASES[case])
    for o in release.objects:
        if o["metadata"]["name"] in {"demo-ca", "demo-text", "runward"}:  # extraObjects: as they are
            continue
        elsewhere = "monitoring" if "dashboard" in o["metadata"]["name"] and case == "production" else NAMESPACE
        assert elsewhere == o["metadata"]["namespace"], o["kind"]
        assert {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "runward-0.1.0"}.items() <= o["metadata"][
            "labels"
        ].items()
        assert CASES[case].get("commonLabels", {}).items() <= o["metadata"]["labels"].items()


@each_case
def test_no_two_objects_have_one_name(case: str) -> None:
    names = Counter(
        (o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")) for o in render(CASES[case]).objects
    )
    assert [] == [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize(("release", "namespace"), [("42", "7"), ("a" * 53, "b" * 63), ("runward", "true")])
def test_names_that_look_like_numbers_or_are_long_stay_names(release: str, namespace: str) -> None:
    rendered = render(CASES["production"], name=release, namespace=namespace)
    for o in rendered.objects:
        assert isinstance(o["metadata"]["name"], str)
        assert len(o["metadata"]["name"]) <= (253 if o["kind"] == "ConfigMap" else 63)
        assert namespace == o["metadata"]["namespace"] or "dashboard" in o["metadata"]["name"]
    assert len(rendered.workload()["metadata"]["name"]) <= 52  # Kubernetes adds a hash of 10 to it


def test_labels_of_pods_are_in_no_other_object() -> None:
    release = render(CASES["everything added"])
    meta = release.workload()["spec"]["template"]["metadata"]
    assert {"team": "pods", "tier": "edge"}.items() <= meta["labels"].items()
    assert "yes" == meta["annotations"]["example.com/note"]
    assert "tier" not in release.of("Service", NAME)["metadata"]["labels"]


@each_case
def test_services_have_one_port_each_and_the_operations_port_stays_inside(case: str) -> None:
    release = render(CASES[case])
    name = release.workload()["metadata"]["name"]
    public, ops = (release.of("Service", name)["spec"], release.of("Service", f"{name}-ops")["spec"])
    assert ["http"] == [port["targetPort"] for port in public["ports"]]
    assert ["ops"] == [port["targetPort"] for port in ops["ports"]]
    assert ("ClusterIP", "None", True) == (ops["type"], ops["clusterIP"], ops["publishNotReadyAddresses"])
    if "StatefulSet" in release.kinds():
        assert f"{name}-ops" == release.workload()["spec"]["serviceName"]


def test_routes_lead_to_the_public_port() -> None:
    ingress = render(CASES["ingress"]).of("Ingress")["spec"]
    path = ingress["rules"][0]["http"]["paths"][0]
    assert {"name": NAME, "port": {"name": "http"}} == path["backend"]["service"]
    assert ("/run", "Exact") == (path["path"], path["pathType"])
    route = render(CASES["production"]).of("HTTPRoute")["spec"]["rules"][0]
    assert [{"name": NAME, "port": 80}] == route["backendRefs"]
    assert {"request": "310s", "backendRequest": "305s"} == route["timeouts"]


def test_a_rule_with_backends_of_its_own_keeps_them() -> None:
    own = [{"backendRefs": [{"name": "other", "port": 1}]}]
    values = merged(CASES["production"], {"httpRoute": {"rules": own}})
    assert own == render(values).of("HTTPRoute")["spec"]["rules"]


@pytest.mark.parametrize("case", ["scaled by cpu", "scaled by requests", "production"])
def test_a_scaler_owns_the_number_of_pods(case: str) -> None:
    release = render(CASES[case])
    spec = release.of("HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in release.workload()["spec"]
    assert {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME} == spec["scaleTargetRef"]
    assert "ScaledObject" not in release.kinds()


def test_the_scaler_looks_at_processor_time_and_requests_in_flight() -> None:
    metrics = render(CASES["production"]).of("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert ["ContainerResource", "Pods"] == [metric["type"] for metric in metrics]
    assert ("cpu", "runward") == (metrics[0]["containerResource"]["name"], metrics[0]["containerResource"]["container"])
    assert "runward_requests_in_flight" == metrics[1]["pods"]["metric"]["name"]


def test_keda_scales_by_requests_in_flight_of_the_namespace() -> None:
    release = render(CASES["keda"])
    assert "replicas" not in release.workload()["spec"]
    assert "HorizontalPodAutoscaler" not in release.kinds()
    trigger = release.of("ScaledObject")["spec"]["triggers"][0]
    assert 'sum(runward_requests_in_flight{namespace="prod"})' == trigger["metadata"]["query"]
    assert "100" == trigger["metadata"]["threshold"]


@each_case
def test_a_disruption_budget_is_made_where_more_than_one_pod_may_run(case: str) -> None:
    release = render(CASES[case])
    several = case in {
        "production",
        "three replicas",
        "scaled by cpu",
        "scaled by requests",
        "keda",
        "keda with triggers",
    }
    assert several == ("PodDisruptionBudget" in release.kinds())


def test_workers_are_given_where_there_are_several() -> None:
    assert ["serve", "--config=/etc/runward/gateway.yaml"] == render(MINIMAL).pod()["containers"][0]["args"]
    assert "--workers=2" == render(CASES["three replicas"]).pod()["containers"][0]["args"][-1]


def test_the_notes_say_how_to_call_it_where_the_metrics_are_and_how_to_verify_the_image() -> None:
    notes = render(CASES["production"]).notes
    assert f"http://{NAME}:80/run" in notes
    assert "https://runward.example.com/run" in notes
    assert f"deployment/{NAME} 9090:9090" in notes
    assert "cosign verify" in notes
    assert "sha256:0123456789abcdef" in notes
    assert "digest is empty" not in notes
    bare = render({}).notes
    assert "config.clients is empty" in bare
    assert "image.digest is empty" in bare
    assert "memory://" in render(merged(SHARED, {"config": {"store": {"url": "memory://"}}})).notes
