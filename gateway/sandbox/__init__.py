"""Both providers emulated from their own pages, on one loopback port: for `runward demo`, for tests and for benchmarks.

It is a server and nothing else: who builds it may hand in what calls a `callback_url`, else nobody is called. What it
can run, and how to ask for a failure, is the table in `defaults`; what it was asked is counted (`calls`).
"""

from gateway.sandbox.call_counts import CallCount, CallCounts, ProviderCallCounts
from gateway.sandbox.callbacks import PostCallback
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
