"""Pods: security, shutdown, mounts and probes, beyond schema validation."""

from __future__ import annotations

import pytest

from gateway.settings import ServerSettings
from gateway.settings.types.units import parse_duration
from tests.helm.cases import CASES, MINIMAL, SHARED
from tests.helm.chart import NAME, Object, Release, merged, render

each_case = pytest.mark.parametrize("case", CASES)
STATELESS_VOLUMES = {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim", "ephemeral", "csi"}
"""Kinds of volumes that the level `restricted` of Pod Security allows and that a chart may use."""


def _containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@each_case
def test_every_pod_meets_the_level_restricted(case: str) -> None:
    """R101: Pod Security Standards, level restricted; also a read-only root file system, and no token."""
    for label, _, spec in render(CASES[case]).pods():
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec), label
        assert spec["automountServiceAccountToken"] is False, label
        assert spec["enableServiceLinks"] is False, label
        assert spec["securityContext"]["runAsNonRoot"] is True, label
        assert (10001, 10001) == (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]), label
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"], label
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= STATELESS_VOLUMES, label
        for container in _containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, label
            assert context["readOnlyRootFilesystem"] is True, label
            assert context["runAsNonRoot"] is True, label
            assert {"drop": ["ALL"]} == context["capabilities"], label
            assert {"type": "RuntimeDefault"} == context["seccompProfile"], label
            assert not context.get("privileged", False), label


def test_a_containers_own_security_context_stays() -> None:
    own = {"name": "own", "image": "own:1", "securityContext": {"runAsUser": 2000}}
    pod = render(merged(MINIMAL, {"extraContainers": [own]})).pod()
    assert own["securityContext"] == pod["containers"][1]["securityContext"]


@each_case
def test_every_account_is_one_of_the_release_and_has_no_token(case: str) -> None:
    release = render(CASES[case])
    made = {o["metadata"]["name"] for o in release.objects if o["kind"] == "ServiceAccount"}
    used = {spec["serviceAccountName"] for _, _, spec in release.pods()}
    assert used <= made | ({"other"} if case == "existing account" else set())
    tokens = [o["automountServiceAccountToken"] for o in release.objects if o["kind"] == "ServiceAccount"]
    assert [False] * len(tokens) == tokens
    assert set() == {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & set(release.kinds())


@each_case
def test_ports_are_named_once_and_probes_use_them(case: str) -> None:
    release = render(CASES[case])
    ports = [port for container in release.pod()["containers"] for port in container.get("ports", [])]
    assert len(ports) == len({port["name"] for port in ports}) == len({port["containerPort"] for port in ports})
    gateway = release.pod()["containers"][0]
    server = release.config()["server"]
    named = {port["name"]: port["containerPort"] for port in gateway["ports"]}
    assert {"http": server.get("port", 8080), "ops": server.get("ops_port", 9090)} == named
    probes = {kind: gateway[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    paths = {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    assert {kind: {"path": path, "port": "ops"} for kind, path in paths.items()} == probes


@each_case
def test_every_mount_has_its_volume_and_every_volume_a_mount(case: str) -> None:
    release = render(CASES[case])
    claims = {c["metadata"]["name"] for c in release.workload()["spec"].get("volumeClaimTemplates", [])}
    for label, _, spec in release.pods():
        volumes = [volume["name"] for volume in spec["volumes"]]
        mounts = {mount["name"] for container in _containers(spec) for mount in container.get("volumeMounts", [])}
        assert len(set(volumes)) == len(volumes), label
        assert mounts == {*volumes, *(claims if "StatefulSet" in label else ())}, label


@each_case
def test_what_is_mounted_changes_in_a_running_pod(case: str) -> None:
    """A file mounted by subPath never changes; hot reload needs folders."""
    for _, _, spec in render(CASES[case]).pods():
        mounts = [mount for container in _containers(spec) for mount in container.get("volumeMounts", [])]
        assert [] == [mount for mount in mounts if "subPath" in mount]


def _named(values: Object) -> Object:
    return merged(MINIMAL, {"config": {"server": values}})


@pytest.mark.parametrize(
    ("server", "seconds"),
    [
        ({}, 75),
        ({"drain": "500ms", "grace": "1s"}, 7),
        ({"drain": "0s", "grace": "1ms"}, 6),
        ({"drain": 0, "grace": 90}, 95),
        ({"drain": "1.5s", "grace": "1.5s"}, 8),
        ({"drain": "15s", "grace": "2m"}, 140),
        ({"drain": "10s", "grace": "1h"}, 3615),
        ({"grace": "1d"}, 86415),
    ],
)
def test_a_pod_has_the_time_to_drain_that_its_configuration_says(server: Object, seconds: int) -> None:
    release = render(_named(server))
    assert seconds == release.pod()["terminationGracePeriodSeconds"]
    settings = ServerSettings.model_validate(server)
    assert settings.drain + settings.grace + 5 <= seconds < settings.drain + settings.grace + 6


def test_a_longer_time_may_be_given_and_the_least_is_taken() -> None:
    for given in (75, 300):
        pod = render(merged(MINIMAL, {"terminationGracePeriodSeconds": given})).pod()
        assert given == pod["terminationGracePeriodSeconds"]


def test_a_pod_that_drains_is_found_out_while_it_still_answers() -> None:
    """The readiness probe fails within the default drain."""
    probe = render(MINIMAL).pod()["containers"][0]["readinessProbe"]
    longest = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert longest < parse_duration(ServerSettings().drain)


def test_replicas_are_updated_without_a_gap_and_a_file_has_one_writer() -> None:
    assert {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}} == render(SHARED).of(
        "Deployment"
    )["spec"]["strategy"]
    release = render(MINIMAL)
    assert "Deployment" not in release.kinds()
    spec = release.of("StatefulSet")["spec"]
    assert 1 == spec["replicas"]
    assert {"whenDeleted": "Retain", "whenScaled": "Retain"} == spec["persistentVolumeClaimRetentionPolicy"]
    mounts = {mount["mountPath"]: mount["name"] for mount in release.pod()["containers"][0]["volumeMounts"]}
    claim = spec["volumeClaimTemplates"][0]
    assert claim["metadata"]["name"] == mounts["/var/lib/runward"]
    assert ["ReadWriteOnce"] == claim["spec"]["accessModes"]
    assert release.config()["store"]["url"].startswith("sqlite:////var/lib/runward/")


def test_a_memory_store_and_a_server_need_no_volume() -> None:
    for case in ("memory", "three replicas"):
        assert "/var/lib/runward" not in str(render(CASES[case]).pod())


def test_constraints_of_the_spread_have_our_selector() -> None:
    for case in ("three replicas", "everything added"):
        release = render(CASES[case])
        for constraint in release.pod()["topologySpreadConstraints"]:
            assert release.workload()["spec"]["selector"] == constraint["labelSelector"]
    soft = {c["whenUnsatisfiable"] for c in render(SHARED).pod()["topologySpreadConstraints"]}
    assert {"ScheduleAnyway"} == soft


def test_values_that_are_templates_are_rendered() -> None:
    release = render(CASES["everything added"])
    gateway = release.pod()["containers"][0]
    assert {"name": "OTEL_SERVICE_NAME", "value": "demo"} in gateway["env"]
    assert {"demo-ca", "demo-text"} <= {o["metadata"]["name"] for o in release.objects}
    assert {"name": "ca", "configMap": {"name": "demo-ca"}} in release.pod()["volumes"]


@each_case
def test_no_secret_stands_outside_a_secret(case: str) -> None:
    """R101: the chart makes none, and no variable has its value from the values."""
    release = render(CASES[case])
    assert "Secret" not in {o["kind"] for o in release.objects}
    config = release.config()
    keys = [provider["api_key"] for provider in config.get("providers", {}).values()]
    secrets = [*keys, *config.get("callbacks", {}).get("secrets", []), config["store"].get("password", {"file": ""})]
    assert [] == [secret for secret in secrets if set(secret) not in ({"file"}, {"env"})]


def _image(values: Object) -> str:
    image: str = render({"image": values}).pod()["containers"][0]["image"]
    return image


def test_the_image_is_named_by_digest_or_tag() -> None:
    digest = "sha256:" + "0" * 64
    assert "runward:0.1.0" == _image({})
    assert "runward:1.0" == _image({"tag": "1.0"})
    assert f"registry.example.com:5000/a/runward@{digest}" == _image(
        {"repository": "registry.example.com:5000/a/runward", "digest": digest}
    )
    assert f"runward:1.0@{digest}" == _image({"tag": "1.0", "digest": digest})


@pytest.mark.parametrize("case", ["production", "everything added"])
def test_one_image_serves_checks_and_tests(case: str) -> None:
    release = render(CASES[case])
    ours = [c for _, _, spec in release.pods() for c in spec["containers"] if c["name"] in {"runward", "check", "run"}]
    assert 1 == len({container["image"] for container in ours})
    assert len(ours) == len(list(release.pods()))


def test_the_job_checks_what_the_pods_will_read() -> None:
    """Same configuration, secrets, variables and volumes, before the release changes."""
    release = render(CASES["everything added"])
    job = release.of("Job")
    annotations = job["metadata"]["annotations"]
    assert "pre-install,pre-upgrade" == annotations["helm.sh/hook"]
    check, gateway = job["spec"]["template"]["spec"], release.pod()
    assert ["check", "/etc/runward/gateway.yaml"] == check["containers"][0]["args"]
    assert gateway["containers"][0]["env"] == check["containers"][0]["env"]
    assert gateway["containers"][0]["envFrom"] == check["containers"][0]["envFrom"]
    mounts = [m for m in gateway["containers"][0]["volumeMounts"] if m["name"] != "data"]
    assert mounts == check["containers"][0]["volumeMounts"]
    texts = {o["metadata"]["name"]: o["data"] for o in release.objects if o["kind"] == "ConfigMap" and "data" in o}
    assert texts[NAME] == texts[f"{NAME}-check"]
    config = next(volume for volume in check["volumes"] if volume["name"] == "config")
    assert f"{NAME}-check" == config["configMap"]["name"]
    assert 0 == job["spec"]["backoffLimit"]


def test_what_the_job_needs_is_there_before_it() -> None:
    """Hooks run before other objects; dependencies of the Job have a smaller weight."""
    release = render(MINIMAL)
    weights = {o["kind"]: int(o["metadata"]["annotations"]["helm.sh/hook-weight"]) for o in _hooks(release)}
    assert {"ServiceAccount", "ConfigMap", "NetworkPolicy", "Job"} == set(weights)
    assert max(weight for kind, weight in weights.items() if kind != "Job") < weights["Job"]


def _hooks(release: Release) -> list[Object]:
    return [o for o in release.objects if "helm.sh/hook" in o["metadata"].get("annotations", {})]


def test_the_test_pod_runs_the_workflow_with_a_key_from_a_file() -> None:
    release = render(CASES["production"])
    pod = release.of("Pod")
    assert "test" == pod["metadata"]["annotations"]["helm.sh/hook"]
    assert [
        "run",
        "support-triage",
        f"--url=http://{NAME}:80",
        "--key-file=/run/secrets/runward/key",
        "--timeout=60",
        '--input={"message":"I was charged twice, please refund me"}',
    ] == pod["spec"]["containers"][0]["args"]
    assert "env" not in pod["spec"]["containers"][0]
