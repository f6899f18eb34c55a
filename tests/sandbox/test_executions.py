"""Bounds of the stored executions."""

from __future__ import annotations

from gateway.sandbox import Node, RunInput, SandboxWorkflow
from gateway.sandbox.canned_outputs import fail
from gateway.sandbox.promptlayer.executions import FIRST_ID, Executions, is_running, main_output, node_results

ECHO = SandboxWorkflow(1, "echo", (Node("Echo", lambda question: dict(question.input), is_output=True),))


def test_the_last_ten_thousand_are_kept() -> None:
    executions = Executions()
    for _ in range(10_001):
        executions.start(ECHO, RunInput({}), now=0.0, size=2)
    assert executions.get(str(FIRST_ID)) is None
    kept = [executions.get(str(FIRST_ID + n)) for n in range(1, 10_001)]
    assert [FIRST_ID + n for n in range(1, 10_001)] == [each.id for each in kept if each is not None]


def test_large_inputs_are_forgotten_sooner() -> None:
    """At most 64 MiB are kept."""
    executions = Executions()
    for _ in range(65):
        executions.start(ECHO, RunInput({}), now=0.0, size=1024 * 1024)
    assert executions.get(str(FIRST_ID)) is None
    assert executions.get(str(FIRST_ID + 1)) is not None


def test_polling_twice_gives_the_same_answer() -> None:
    execution = Executions().start(ECHO, RunInput({"a": 1}), now=5.0, size=2)
    assert node_results(execution, 5.0) == node_results(execution, 99.0)
    assert not is_running(node_results(execution, 5.0))


def test_the_main_output_is_the_first_output_node_that_succeeded() -> None:
    nodes = (
        Node("A", lambda _: "a"),
        Node("B", fail, is_output=True),
        Node("C", lambda _: "c", is_output=True),
        Node("D", lambda _: "d", is_output=True),
    )
    execution = Executions().start(SandboxWorkflow(1, "w", nodes), RunInput({}), now=0.0, size=2)
    assert "c" == main_output(node_results(execution, 0.0))
