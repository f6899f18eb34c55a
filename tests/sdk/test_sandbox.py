"""An app that was only told another base URL and another key: what its SDK makes of every case, whichever SDK it is.

Both providers are emulated behind the gateway. Each test looks at one case of one run of each SDK (`outcome`).
"""

from __future__ import annotations

import asyncio

import pytest

from tests.process import total
from tests.sdk.outcome import AWKWARD, CASES, LARGE, STARTS, Outcome, all_cases
from tests.sdk.sdks import ALL, require


@pytest.fixture(scope="module", params=ALL, ids=lambda sdk: sdk.name)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Every case, once for each SDK."""
    require(request.param)
    return asyncio.run(all_cases(request.param, tmp_path_factory.mktemp("sdk")))


def test_a_run_succeeds(outcome: Outcome) -> None:
    """The output node's bare value is what comes back."""
    made = outcome.made["triage"].result
    assert ("billing", 3) == (made["category"], made["prompt_version"])


def test_a_workflow_has_its_own_name_too(outcome: Outcome) -> None:
    """The app's code names what PromptLayer calls it."""
    assert 3 == outcome.made["by its own name"].result["prompt_version"]


def test_a_workflow_has_a_number_too(outcome: Outcome) -> None:
    """Python's SDK then does not ask for it first."""
    assert 3 == outcome.made["by its number"].result["prompt_version"]


def test_labels_and_versions_reach_the_provider(outcome: Outcome) -> None:
    """`production` is version 2, the newest is 3."""
    assert 2 == outcome.made["a label"].result["prompt_version"]
    assert 1 == outcome.made["a version"].result["prompt_version"]


def test_a_label_that_does_not_exist_fails(outcome: Outcome) -> None:
    """The provider says so once the run is kept: the run fails, with the provider's words."""
    assert "Workflow label not found" in outcome.failed("no such label")


def test_every_nodes_output_is_there_where_it_is_asked_for(outcome: Outcome) -> None:
    """As PromptLayer has it: five members each."""
    nodes = outcome.made["every node"].result
    assert {"Summary": "SUCCESS", "Translation": "SKIPPED"} == {name: node["status"] for name, node in nodes.items()}
    assert {
        "status": "SUCCESS", "value": "One.", "error_message": None, "raw_error_message": None, "is_output_node": True
    } == nodes["Summary"]  # fmt: skip


def test_a_name_may_have_a_slash(outcome: Outcome) -> None:
    """Python's SDK sends it as it is, JavaScript's encodes it."""
    assert "One." == outcome.made["a name with a slash"].result


def test_any_json_comes_back_as_it_was_sent(outcome: Outcome) -> None:
    """It is a text within a text on its way."""
    assert AWKWARD == outcome.made["awkward"].result


def test_a_large_result_arrives_whole(outcome: Outcome) -> None:
    """It is too large to be pushed, so the SDK is told to get it."""
    assert LARGE == len(outcome.made["large"].result)


def test_a_failed_run_fails_with_the_providers_words(outcome: Outcome) -> None:
    assert "Code execution failed" in outcome.failed("fails")


def test_a_failed_run_shows_every_node_where_it_is_asked_for(outcome: Outcome) -> None:
    """Then no SDK raises."""
    nodes = outcome.made["fails with every node"].result
    assert {"Prepare": "SUCCESS", "Score": "FAILED"} == {name: node["status"] for name, node in nodes.items()}


def test_one_output_that_succeeds_is_enough(outcome: Outcome) -> None:
    assert {"a": 1} == outcome.made["half of it fails"].result


def test_a_run_that_takes_too_long_fails(outcome: Outcome) -> None:
    """The workflow's timeout is the operator's; what became of the run is said as it is."""
    assert "Whether the workflow ran is not known." in outcome.failed("takes too long")


def test_a_start_with_an_unclear_answer_fails_and_says_so(outcome: Outcome) -> None:
    """A 500 to a start may be a run: it is not sent again."""
    assert "Whether the workflow ran is not known." in outcome.failed("nobody knows")


def test_polls_that_fail_are_the_gateways_business(outcome: Outcome) -> None:
    """The first two are answered with a 500."""
    assert {"a": 1} == outcome.made["asking fails"].result


def test_an_unknown_workflow_is_refused(outcome: Outcome) -> None:
    assert "No workflow has this name." in outcome.refused(outcome.made["unknown"])


def test_a_wrong_key_is_refused(outcome: Outcome) -> None:
    """PromptLayer's own keys are none of ours."""
    assert "A valid gateway key is required" in outcome.refused(outcome.stranger)


def test_a_workflow_of_prompt_studio_runs(outcome: Outcome) -> None:
    """By its alias, and the app does not know the difference."""
    assert "billing" == outcome.made["studio"].result["category"]


def test_a_workflow_of_prompt_studio_has_one_node(outcome: Outcome) -> None:
    nodes = outcome.made["studio, every node"].result
    assert {"Output": ("SUCCESS", {"a": 1}, True)} == {
        name: (node["status"], node["value"], node["is_output_node"]) for name, node in nodes.items()
    }


def test_a_run_that_fails_at_prompt_studio_fails(outcome: Outcome) -> None:
    assert "The run failed at the provider" in outcome.failed("studio fails")


def test_a_label_where_there_are_none_is_refused(outcome: Outcome) -> None:
    """And not ignored: another version would run than the one that was asked for."""
    assert "this workflow's provider has no versions" in outcome.refused(outcome.made["studio has no labels"])


def test_many_runs_at_once_each_get_their_own(outcome: Outcome) -> None:
    """Two hundred, where the SDK can do so many; their base URL ends in a slash, so that paths begin with two."""
    assert list(range(outcome.sdk.many)) == [made.result and made.result["n"] for made in outcome.many]


def test_every_call_is_one_start(outcome: Outcome) -> None:
    """Counted at the providers: whatever became of it, nothing was started twice."""
    assert {**STARTS, "slow": 1 + outcome.sdk.many} == outcome.starts


def test_the_runs_are_counted_as_this_faces(outcome: Outcome) -> None:
    """All but the two calls that were refused."""
    expected = len(CASES) - 2 + outcome.sdk.many
    assert expected == total(outcome.samples, "runward_runs_total", face="promptlayer")


def test_nothing_odd_is_logged(outcome: Outcome) -> None:
    assert [] == outcome.mistakes
