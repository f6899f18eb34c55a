"""The chart as a whole: lint, examples, generated files, policies, and a Helm binary if installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import helm_python
import pytest
import yaml

from helm.generate import ROOT, files, table
from tests.helm.cases import CASES
from tests.helm.chart import CHART, NAMESPACE, RELEASE, Object, render
from tests.support.gateway_restarts import new_callback_secret

EXAMPLES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
POLICIES = ROOT / ".venv" / "checkov"
ACCEPTED = {
    ("CKV_K8S_11", "Deployment.prod.demo-runward"): "a CPU limit throttles, which delays every run",
    ("CKV_K8S_8", "Pod.prod.demo-runward-test"): "the test pod ends by itself",
    ("CKV_K8S_9", "Pod.prod.demo-runward-test"): "the test pod serves nothing",
}
"""Policies that are not met, and why."""

each_example = pytest.mark.parametrize("example", EXAMPLES)


def test_the_examples_are_those_of_the_page() -> None:
    assert ["external-secret", "minimal", "production"] == EXAMPLES
    page = (CHART / "README.md").read_text()
    assert EXAMPLES == sorted(re.findall(r"\(ci/([a-z-]+)-values\.yaml\)", page))


@pytest.mark.parametrize("example", [None, *EXAMPLES])
def test_lint_finds_nothing(example: str | None) -> None:
    """Strict `helm lint`; a missing icon is ignored."""
    values = CASES[example] if example else {}
    found = helm_python.lint(CHART, values, strict=True, kube_version="v1.30.0")
    assert [] == [message for message in found["messages"] if message["severity"] > 1]


@each_example
def test_the_gateway_takes_an_examples_configuration(example: str, tmp_path: Path) -> None:
    """`runward check` with a file for each secret, like the Job before an installation."""
    release = render(CASES[example])
    text = release.of("ConfigMap", "demo-runward")["data"]["gateway.yaml"]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in re.findall(r"/run/secrets/runward/([a-z-]+)", text):
        special = {"callbacks": new_callback_secret(), "content-key": b64encode(bytes(range(32))).decode()}
        (secrets / name).write_text(special.get(name, "a-secret-for-tests"))
    path = tmp_path / "gateway.yaml"
    path.write_text(text.replace("/run/secrets/runward", str(secrets)))
    environ = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "COLUMNS": "120"}
    command = [sys.executable, "-m", "gateway", "check", str(path)]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert "valid: " in done.stdout
    assert "warning" not in done.stdout


@each_example
def test_an_examples_numbers_and_dates_arrive_as_they_were_written(example: str) -> None:
    written = yaml.safe_load((CHART / "ci" / f"{example}-values.yaml").read_text())["config"]
    arrived = render(CASES[example]).config()
    for section, settings in written.items():
        assert json.loads(json.dumps(settings, default=str)).items() <= arrived[section].items(), section


def test_what_is_written_from_elsewhere_is_up_to_date() -> None:
    """`make chart` generates the schema of `config`, the rules, the dashboards and the table of values."""
    stale = [str(path.relative_to(ROOT)) for path, text in files().items() if path.read_text() != text]
    assert [] == stale
    copies = {path.name for path in (CHART / "files").rglob("*.*") if path.is_file()}
    assert copies == {path.name for path in files() if path.is_relative_to(CHART / "files")}


def test_every_value_is_in_the_table_with_its_meaning() -> None:
    values = (CHART / "values.yaml").read_text()
    rows = set(re.findall(r"^\| `([A-Za-z.]+)` \|", table(values), re.MULTILINE))
    defaults: Object = yaml.safe_load(values)
    nested = {"image", "serviceAccount", "probes", "persistence", "service", "opsService", "ingress", "httpRoute"}
    nested |= {"autoscaling", "keda", "podDisruptionBudget", "networkPolicy", "serviceMonitor", "podMonitor"}
    nested |= {"prometheusRule", "dashboards", "check", "test"}
    expected = {f"{name}.{key}" for name in nested for key in defaults[name]} | set(defaults) - nested
    assert set() == expected - rows - {
        "keda.prometheus",
        "test.keySecret",
        "networkPolicy.otlp",
        "networkPolicy.callbacks",
    }


def test_the_page_names_no_value_that_there_is_not() -> None:
    page = (CHART / "README.md").read_text().partition("<!-- values")[0]
    defaults: Object = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in re.findall(r"`((?:networkPolicy|autoscaling|keda|existingSecret|replicas)[A-Za-z.]*)`", page):
        value: object = defaults
        for key in name.split("."):
            assert isinstance(value, dict)
            assert key in value, name
            value = value[key]


def test_the_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert project[1] == chart["appVersion"]
    assert (ROOT / "tests" / "helm" / "released" / f"{chart['version']}.json").exists()


def test_it_can_be_packaged_with_everything_that_it_renders(tmp_path: Path) -> None:
    package = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(package) as chart:
        texts = chart.render(CASES["production"], name=RELEASE, namespace=NAMESPACE)
    rendered = [d for text in texts.values() if "kind: ConfigMap" in text for d in yaml.safe_load_all(text) if d]
    ours = [o for o in render(CASES["production"]).objects if o["kind"] == "ConfigMap"]
    assert {o["metadata"]["name"] for o in ours} == {
        o["metadata"]["name"] for o in rendered if o["kind"] == "ConfigMap"
    }


def test_helm_installs_it_as_far_as_that_goes_without_a_cluster() -> None:
    """Client-side dry run: hooks, notes and the order of kinds."""
    with helm_python.Config(storage_driver="memory", namespace=NAMESPACE) as helm:
        release = helm.install(CHART, RELEASE, dict(CASES["production"]), namespace=NAMESPACE, dry_run="client")
    assert "cosign verify" in str(release)
    assert "kind: Deployment" in str(release)


@pytest.mark.skipif(
    not (POLICIES / ".installed").exists() and os.environ.get("RUNWARD_REQUIRE_CHECKOV") != "1",
    reason="Checkov is not installed (`make test` does it)",
)
def test_every_policy_is_met_but_those_that_are_not_meant(tmp_path: Path) -> None:
    """R101: Checkov's policies for Kubernetes."""
    rendered = tmp_path / "production.yaml"
    rendered.write_text(yaml.safe_dump_all(render(CASES["production"]).objects))
    environ = {**os.environ, "PYTHONPATH": str(POLICIES)}
    options = ["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json"]
    command = [sys.executable, "-m", "checkov.main", "--file", str(rendered), *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=110, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 200
    failed = {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}
    assert set(ACCEPTED) == failed


@pytest.mark.skipif(shutil.which("helm") is None, reason="no `helm` on the PATH; Helm's library is tried in any case")
@pytest.mark.parametrize("case", CASES)
def test_the_command_helm_renders_the_same(case: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(dict(CASES[case])))
    command = ["helm", "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    by_name = {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(done.stdout) if o}
    assert by_name == {(o["kind"], o["metadata"]["name"]): o for o in render(CASES[case]).objects}
