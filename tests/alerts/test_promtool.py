"""promtool accepts the rules, passes their unit tests, and finds no fault in the exposition."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.alerts.alert_rules import RULES, UNIT_TESTS, alerts, document, recorded
from tests.alerts.prometheus_server import write_configuration
from tests.alerts.prometheus_tools import REQUIRED, find_program, run_promtool
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream


async def test_the_rules_are_accepted() -> None:
    """R96."""
    code, written = await run_promtool("check", "rules", "--lint-fatal", str(RULES))
    assert (0, True) == (code, "SUCCESS" in written), written


async def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """R96: tests/alerts/rules_test.yaml, which includes one hour of a healthy gateway."""
    code, written = await run_promtool("test", "rules", str(UNIT_TESTS))
    assert (0, True) == (code, "SUCCESS" in written), written


@pytest.mark.parametrize("change", [{"expr": "vector(0) > 1"}, {"for": "1h"}], ids=["never", "too_late"])
async def test_the_unit_tests_notice_alerts_that_do_not_fire(tmp_path: Path, change: dict[str, str]) -> None:
    """The unit tests fail for each alert that is changed never to fire."""
    code, written = await run_promtool("test", "rules", str(changed_rules(tmp_path, change)))
    missed = set(re.findall(r'alertname="(\w+)"', written))
    assert (1, {alert.name for alert in alerts()}) == (code, missed), written


async def test_the_unit_tests_notice_alerts_that_always_fire(tmp_path: Path) -> None:
    """Each unit test asserts a time at which the alert must not fire."""
    code, written = await run_promtool(
        "test", "rules", str(changed_rules(tmp_path, {"expr": "vector(1)", "for": "0m"}))
    )
    asked = [asked for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for asked in test["promql_expr_test"]]
    silences = [each["expr"] for each in asked if "exp_samples" not in each]
    assert (1, len(silences)) == (code, written.count("exp: nil"))


def changed_rules(directory: Path, change: dict[str, str]) -> Path:
    """Return the unit tests with modified rules."""
    rules = copy.deepcopy(document())
    for raw in rules["groups"][0]["rules"]:
        raw.update(change if "alert" in raw else {})
    (directory / RULES.name).write_text(yaml.safe_dump(rules))
    (directory / "test.yaml").write_text(UNIT_TESTS.read_text().replace("../../config/", ""))
    return directory / "test.yaml"


async def test_the_pages_configuration_is_accepted(tmp_path: Path) -> None:
    """The configuration of docs/alerts.md, and its accelerated copy."""
    write_configuration(tmp_path, "127.0.0.1:9090")
    code, written = await run_promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert (0, True) == (code, f"{len(recorded()) + len(alerts())} rules found" in written), written


async def test_a_real_gateways_exposition_is_clean(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: after successful runs, a retry, a failed run and an invalid key, so that most metrics have samples."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    upstream.script("POST", STUDIO_RUN, [reply(429, {}, {"Retry-After": "0"}), prompt_studio_reply(1), reply(500, {})])
    running = await gateway(clients={"one": {"limits": {"rate": "50/s"}}})
    assert [200, 502, 200] == [
        (await run(running, body)).status for body in (PROMPT_STUDIO_BODY, PROMPT_STUDIO_BODY, PROMPTLAYER_BODY)
    ]
    async with session.post(
        running.url + "/run", headers={**auth_headers("one"), "Authorization": "Bearer rw_no"}
    ) as refused:
        assert 401 == refused.status
    async with session.get(running.ops_url + "/metrics") as answer:
        exposition = await answer.read()
    assert 8 <= exposition.count(b"# TYPE ")
    assert (0, "") == await run_promtool("check", "metrics", stdin=exposition)


def test_a_missing_tool_is_a_failure_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test is skipped with a reason."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="promtool is not installed"):
        find_program("promtool")
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="has to be"):
        find_program("promtool")
