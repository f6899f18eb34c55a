"""What the sandbox can run when it is told nothing else.

========================  =============  ============================================================================
PromptLayer (id)          takes          does
========================  =============  ============================================================================
support-triage (1)        0.6 s          `message` to category, priority, reply. Two nodes, the second is the output;
                                         versions 1 to 3, production = 2, staging = 3
support-reply (2)         0.6 s          `user_message` (the page's example) to a reply; production = 1
team/summarise (3)        0.6 s          `text` to its first sentence; a second output node translates it, and is
                                         SKIPPED unless the input names a `language`
echo (4)                  no time        its input
slow (5)                  `seconds`, 2   its input, at most 60 s later
fail (6)                  no time        a run that fails: 200, the output node FAILED
partial (7)               no time        one output node FAILED, another SUCCESS
no-output (8)             no time        nodes that succeed, and none of them an output
huge (9)                  no time        `bytes` (16 MiB, at most 64 MiB) of text
flaky-poll (10)           no time        its input; the first two polls of a run answer 500
flaky (20)                no time        its input; of equal starts every other is refused: 503, Retry-After: 0
throttled (21)            -              429, Retry-After: 1
error-500 (22)            -              500, though the run is executed
hang (23)                 `seconds`, 60  504 at last, though the run is executed; at most 60 s
garbage (24)              -              200 with HTML, though the run is executed
========================  =============  ============================================================================

==================================================  =================================================================
Prompt Studio                                       does
==================================================  =================================================================
dep_echo, dep_slow, dep_huge, dep_flaky,            as above; the answer is the result
dep_throttled, dep_error_500, dep_hang,
dep_garbage
dep_fail                                            500 `{}`: the run was executed and failed
dep_triage                                          as support-triage, 0.6 s
dep_answer                                          `prompt` (the page's example) to a completion, 0.6 s
dep_no_output                                       an empty result
==================================================  =================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.sandbox import answers
from gateway.sandbox.workflows import Catalogue, Deployment, Fault, Node, Workflow, a_moment, as_asked

_ECHO = (Node("Echo", answers.echo, is_output=True),)
_FAILING = Node("Score", answers.failure, is_output=True, kind="CODE_EXECUTION")

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "flaky": Fault(503, "Service temporarily unavailable.", retry_after="0", paid=False, every_other=True),
        "throttled": Fault(429, "Rate limit exceeded. Please retry later.", retry_after="1", paid=False),
        "error-500": Fault(500, "Internal server error."),
        "hang": Fault(504, "Gateway time-out.", hangs=True),
        "garbage": Fault(200, html="<!doctype html><title>Welcome</title><p>It works!</p>"),
    }
)
"""What can befall a start, by the workflow's name; Prompt Studio's have `dep_` before it and `_` for `-`."""

_WORKFLOWS = (
    Workflow(
        1,
        "support-triage",
        (Node("Classify", answers.classify), Node("Reply", answers.triage, is_output=True)),
        inputs={"message": "string"},
        seconds=a_moment,
        versions=3,
        labels={"production": 2, "staging": 3},
    ),
    Workflow(
        2,
        "support-reply",
        (Node("Reply", answers.reply, is_output=True),),
        inputs={"user_message": "string"},
        seconds=a_moment,
        labels={"production": 1},
    ),
    Workflow(
        3,
        "team/summarise",
        (
            Node("Summary", answers.summary, is_output=True),
            Node("Translation", answers.translation, is_output=True),
        ),
        seconds=a_moment,
    ),
    Workflow(4, "echo", _ECHO),
    Workflow(5, "slow", _ECHO, seconds=as_asked),
    Workflow(6, "fail", (Node("Prepare", answers.echo), _FAILING)),
    Workflow(
        7,
        "partial",
        (_FAILING, Node("Echo", answers.echo, is_output=True)),
    ),
    Workflow(8, "no-output", (Node("Echo", answers.echo), Node("Classify", answers.classify))),
    Workflow(9, "huge", (Node("Text", answers.big, is_output=True),)),
    Workflow(10, "flaky-poll", _ECHO, poll_errors=2),
    *(Workflow(20 + i, name, _ECHO, fault=fault) for i, (name, fault) in enumerate(FAULTS.items())),
)

_DEPLOYMENTS = (
    Deployment("dep_echo", answers.echo),
    Deployment("dep_slow", answers.echo, {"seconds": "number"}, as_asked),
    Deployment("dep_triage", answers.triage, {"message": "string"}, a_moment),
    Deployment("dep_answer", answers.completion, {"prompt": "string"}, a_moment),
    Deployment("dep_fail", answers.failure),
    Deployment("dep_no_output", answers.nothing),
    Deployment("dep_huge", answers.big_object, {"bytes": "number"}),
    *(Deployment(f"dep_{name.replace('-', '_')}", answers.echo, fault=fault) for name, fault in FAULTS.items()),
)

DEFAULT_WORKFLOWS = Catalogue(_WORKFLOWS, _DEPLOYMENTS)
"""See the table above."""
