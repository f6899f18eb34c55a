"""Official SDKs with another base URL and key: results of every case, for every SDK.

Both providers are emulated behind the gateway. Each test looks at one case of one run of each SDK (`outcome`).
"""

from __future__ import annotations

import asyncio

import pytest

from tests.sdk.official_sdks import ALL_SDKS, require_sdk
from tests.sdk.sandbox_results import CASES, LARGE_BYTES, STARTS, UNUSUAL_JSON, SandboxResults, run_all_cases
from tests.support.process import metric_sum


@pytest.fixture(scope="module", params=ALL_SDKS, ids=lambda sdk: sdk.name)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SandboxResults:
    """Results of every case, executed once per SDK."""
    require_sdk(request.param)
    return asyncio.run(run_all_cases(request.param, tmp_path_factory.mktemp("sdk")))


def test_a_run_succeeds(results: SandboxResults) -> None:
    """The result is the bare value of the output node."""
    made = results.results["triage"].result
    assert ("billing", 3) == (made["category"], made["prompt_version"])


def test_a_workflow_has_its_own_name_too(results: SandboxResults) -> None:
    """The application uses PromptLayer's name."""
    assert 3 == results.results["by its own name"].result["prompt_version"]


def test_a_workflow_has_a_number_too(results: SandboxResults) -> None:
    """The Python SDK then does not request it first."""
    assert 3 == results.results["by its number"].result["prompt_version"]


def test_labels_and_versions_reach_the_provider(results: SandboxResults) -> None:
    """`production` is version 2, the newest is 3."""
    assert 2 == results.results["a label"].result["prompt_version"]
    assert 1 == results.results["a version"].result["prompt_version"]


def test_a_label_that_does_not_exist_fails(results: SandboxResults) -> None:
    """The provider refuses the start: the SDK is told so, with the provider's text."""
    assert "Workflow label not found" in results.rejection_text(results.results["no such label"])


def test_every_nodes_output_is_there_where_it_is_asked_for(results: SandboxResults) -> None:
    """As at PromptLayer: five members each."""
    nodes = results.results["every node"].result
    assert {"Summary": "SUCCESS", "Translation": "SKIPPED"} == {name: node["status"] for name, node in nodes.items()}
    assert {
        "status": "SUCCESS", "value": "One.", "error_message": None, "raw_error_message": None, "is_output_node": True
    } == nodes["Summary"]  # fmt: skip


def test_a_name_may_have_a_slash(results: SandboxResults) -> None:
    """The Python SDK sends it unencoded, the JavaScript SDK encodes it."""
    assert "One." == results.results["a name with a slash"].result


def test_any_json_comes_back_as_it_was_sent(results: SandboxResults) -> None:
    """It is a JSON text within a JSON text on the wire."""
    assert UNUSUAL_JSON == results.results["awkward"].result


def test_a_large_result_arrives_whole(results: SandboxResults) -> None:
    """It is too large for a message, so the SDK is told to request it."""
    assert LARGE_BYTES == len(results.results["large"].result)


def test_a_failed_run_has_the_providers_error_text(results: SandboxResults) -> None:
    assert "Code execution failed" in results.failure_text("fails")


def test_a_failed_run_shows_every_node_where_it_is_asked_for(results: SandboxResults) -> None:
    """No SDK raises in this case."""
    nodes = results.results["fails with every node"].result
    assert {"Prepare": "SUCCESS", "Score": "FAILED"} == {name: node["status"] for name, node in nodes.items()}


def test_one_output_that_succeeds_is_enough(results: SandboxResults) -> None:
    assert {"a": 1} == results.results["half of it fails"].result


def test_a_run_that_takes_too_long_fails(results: SandboxResults) -> None:
    """The timeout is that of the workflow, here without polls after it; the error says that it was started."""
    assert "The workflow was started; its result is not known." in results.failure_text("takes too long")


def test_a_start_with_an_unclear_answer_fails_and_says_so(results: SandboxResults) -> None:
    """A 500 may have started the run, so it is not repeated."""
    assert "Whether the workflow ran is not known." in results.rejection_text(results.results["outcome unknown"])


def test_polls_that_fail_are_the_gateways_business(results: SandboxResults) -> None:
    """The first two polls fail with a 500."""
    assert {"a": 1} == results.results["asking fails"].result


def test_an_unknown_workflow_is_refused(results: SandboxResults) -> None:
    assert "No workflow has this name." in results.rejection_text(results.results["unknown"])


def test_a_wrong_key_is_refused(results: SandboxResults) -> None:
    """PromptLayer's own keys are invalid at the gateway."""
    assert "A valid gateway key is required" in results.rejection_text(results.unknown_key_result)


def test_a_workflow_of_prompt_studio_runs(results: SandboxResults) -> None:
    """By its alias; the application sees no difference."""
    assert "billing" == results.results["studio"].result["category"]


def test_a_workflow_of_prompt_studio_has_one_node(results: SandboxResults) -> None:
    nodes = results.results["studio, every node"].result
    assert {"Output": ("SUCCESS", {"a": 1}, True)} == {
        name: (node["status"], node["value"], node["is_output_node"]) for name, node in nodes.items()
    }


def test_a_run_that_fails_at_prompt_studio_fails(results: SandboxResults) -> None:
    assert "The run failed at the provider" in results.failure_text("studio fails")


def test_a_label_where_there_are_none_is_refused(results: SandboxResults) -> None:
    """Ignoring it would execute another version than requested."""
    assert "the provider of this workflow does not support versions" in results.rejection_text(
        results.results["studio has no labels"]
    )


def test_many_runs_at_once_each_get_their_own(results: SandboxResults) -> None:
    """Two hundred if the SDK supports it; the base URL ends in a slash, so that paths begin with two."""
    assert list(range(results.sdk.parallel_calls)) == [
        made.result and made.result["n"] for made in results.parallel_results
    ]


def test_every_call_is_one_start(results: SandboxResults) -> None:
    """Counted at the providers, for every ending."""
    assert {**STARTS, "slow": 1 + results.sdk.parallel_calls} == results.starts


def test_the_runs_are_counted_under_the_promptlayer_api(results: SandboxResults) -> None:
    """All except the two refused calls."""
    expected = len(CASES) - 2 + results.sdk.parallel_calls
    assert expected == metric_sum(results.samples, "runward_runs_total", api="promptlayer")


def test_no_internal_error_is_logged(results: SandboxResults) -> None:
    assert [] == results.internal_errors
