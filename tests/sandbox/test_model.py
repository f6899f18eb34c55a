"""Model of the sandbox."""

from __future__ import annotations

import pytest

from gateway.sandbox import (
    DEFAULT_WORKFLOWS,
    Deployment,
    Node,
    RunInput,
    SandboxCatalog,
    SandboxWorkflow,
    default_workflows,
)
from gateway.sandbox.canned_outputs import classify, completion, echo, summary
from providers.contract import JsonValue

NODES = (Node("Echo", echo, is_output=True),)


@pytest.mark.parametrize(
    "catalogue",
    [
        lambda: SandboxCatalog((SandboxWorkflow(1, "a", NODES), SandboxWorkflow(2, "a", NODES))),
        lambda: SandboxCatalog((SandboxWorkflow(1, "a", NODES), SandboxWorkflow(1, "b", NODES))),
        lambda: SandboxCatalog((SandboxWorkflow(1, "2", NODES), SandboxWorkflow(2, "b", NODES))),
        lambda: SandboxCatalog((), (Deployment("d", echo), Deployment("d", echo))),
    ],
)
def test_two_things_of_one_name_are_refused(catalogue: type[SandboxCatalog]) -> None:
    with pytest.raises(ValueError, match="share a name"):
        catalogue()


def test_every_default_stands_in_the_table_of_the_module() -> None:
    """The table is the documentation of the sandbox."""
    table = default_workflows.__doc__ or ""
    assert [] == [w.name for w in DEFAULT_WORKFLOWS.workflows if f"\n{w.name} ({w.id}) " not in table]
    assert [] == [d.id for d in DEFAULT_WORKFLOWS.deployments if d.id not in table]


@pytest.mark.parametrize(
    ("given", "number"),
    [(3, 3.0), (0.5, 0.5), (-1, 0.0), (10**400, 9.0), (True, 2.0), ("3", 2.0), (None, 2.0), ([], 2.0)],
)
def test_a_number_of_the_input_is_kept_in_bounds(given: JsonValue, number: float) -> None:
    assert number == RunInput({"n": given}).get_number("n", default=2.0, maximum=9.0)


@pytest.mark.parametrize(
    ("message", "category", "priority"),
    [
        ("I need help with billing", "billing", "normal"),
        ("I was CHARGED TWICE", "billing", "high"),
        ("Cannot log in, urgent!", "account", "high"),
        ("The app crashes", "technical", "normal"),
        ("Where is my package?", "shipping", "normal"),
        ("Hello", "general", "normal"),
        (17, "general", "normal"),
    ],
)
def test_triage_goes_by_keywords(message: JsonValue, category: str, priority: str) -> None:
    assert {"category": category, "priority": priority} == classify(RunInput({"message": message}))


@pytest.mark.parametrize(("text", "expected"), [("One. Two.", "One."), ("", ""), ("No end", "No end."), (None, "")])
def test_a_summary_is_the_first_sentence(text: JsonValue, expected: str) -> None:
    assert expected == summary(RunInput({"text": text}))


def test_an_unknown_prompt_is_answered_honestly_and_not_repeated() -> None:
    answer = completion(RunInput({"prompt": "my secret"}))
    assert {"completion": "No model was asked about these 9 characters: this is the sandbox."} == answer
