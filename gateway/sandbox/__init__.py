"""Emulator of both providers, from their documentation, on one loopback port: for the demo, tests and benchmarks.

Callbacks are sent through a function of the caller, if there is one. `default_workflows` has the table of workflows and
faults; `call_counts` counts the requests.
"""

from gateway.sandbox.call_counts import CallCount, CallCounts, ProviderCallCounts
from gateway.sandbox.default_workflows import DEFAULT_WORKFLOWS
from gateway.sandbox.model import (
    Deployment,
    InjectedFault,
    Node,
    NodeFailed,
    NodeSkipped,
    RunInput,
    SandboxCatalog,
    SandboxWorkflow,
)
from gateway.sandbox.promptlayer.callbacks import PostCallback
from gateway.sandbox.server import CALL_COUNTS, RunningSandbox, SandboxKeys, create_application, serve

__all__ = [
    "CALL_COUNTS",
    "DEFAULT_WORKFLOWS",
    "CallCount",
    "CallCounts",
    "Deployment",
    "InjectedFault",
    "Node",
    "NodeFailed",
    "NodeSkipped",
    "PostCallback",
    "ProviderCallCounts",
    "RunInput",
    "RunningSandbox",
    "SandboxCatalog",
    "SandboxKeys",
    "SandboxWorkflow",
    "create_application",
    "serve",
]
