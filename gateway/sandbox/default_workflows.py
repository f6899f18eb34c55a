"""Default workflows of the sandbox.

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

from gateway.sandbox import canned_outputs
from gateway.sandbox.model import (
    Deployment,
    InjectedFault,
    Node,
    SandboxCatalog,
    SandboxWorkflow,
    requested_delay,
    short_delay,
)

_ECHO = (Node("Echo", canned_outputs.echo, is_output=True),)
_FAILING = Node("Score", canned_outputs.fail, is_output=True, node_type="CODE_EXECUTION")

FAULTS: Mapping[str, InjectedFault] = MappingProxyType(
    {
        "flaky": InjectedFault(503, "Service temporarily unavailable.", retry_after="0", paid=False, every_other=True),
        "throttled": InjectedFault(429, "Rate limit exceeded. Please retry later.", retry_after="1", paid=False),
        "error-500": InjectedFault(500, "Internal server error."),
        "hang": InjectedFault(504, "Gateway time-out.", hangs=True),
        "garbage": InjectedFault(200, html="<!doctype html><title>Welcome</title><p>It works!</p>"),
    }
)
"""Injected faults by workflow name; for Prompt Studio with the prefix `dep_`, and `_` for `-`."""

_WORKFLOWS = (
    SandboxWorkflow(
        1,
        "support-triage",
        (Node("Classify", canned_outputs.classify), Node("Reply", canned_outputs.triage, is_output=True)),
        inputs={"message": "string"},
        duration=short_delay,
        versions=3,
        labels={"production": 2, "staging": 3},
    ),
    SandboxWorkflow(
        2,
        "support-reply",
        (Node("Reply", canned_outputs.reply, is_output=True),),
        inputs={"user_message": "string"},
        duration=short_delay,
        labels={"production": 1},
    ),
    SandboxWorkflow(
        3,
        "team/summarise",
        (
            Node("Summary", canned_outputs.summary, is_output=True),
            Node("Translation", canned_outputs.translation, is_output=True),
        ),
        duration=short_delay,
    ),
    SandboxWorkflow(4, "echo", _ECHO),
    SandboxWorkflow(5, "slow", _ECHO, duration=requested_delay),
    SandboxWorkflow(6, "fail", (Node("Prepare", canned_outputs.echo), _FAILING)),
    SandboxWorkflow(
        7,
        "partial",
        (_FAILING, Node("Echo", canned_outputs.echo, is_output=True)),
    ),
    SandboxWorkflow(8, "no-output", (Node("Echo", canned_outputs.echo), Node("Classify", canned_outputs.classify))),
    SandboxWorkflow(9, "huge", (Node("Text", canned_outputs.large_text, is_output=True),)),
    SandboxWorkflow(10, "flaky-poll", _ECHO, poll_errors=2),
    *(SandboxWorkflow(20 + i, name, _ECHO, fault=fault) for i, (name, fault) in enumerate(FAULTS.items())),
)

_DEPLOYMENTS = (
    Deployment("dep_echo", canned_outputs.echo),
    Deployment("dep_slow", canned_outputs.echo, {"seconds": "number"}, requested_delay),
    Deployment("dep_triage", canned_outputs.triage, {"message": "string"}, short_delay),
    Deployment("dep_answer", canned_outputs.completion, {"prompt": "string"}, short_delay),
    Deployment("dep_fail", canned_outputs.fail),
    Deployment("dep_no_output", canned_outputs.empty_object),
    Deployment("dep_huge", canned_outputs.large_object, {"bytes": "number"}),
    *(Deployment(f"dep_{name.replace('-', '_')}", canned_outputs.echo, fault=fault) for name, fault in FAULTS.items()),
)

DEFAULT_WORKFLOWS = SandboxCatalog(_WORKFLOWS, _DEPLOYMENTS)
"""The workflows and deployments of the table above."""
