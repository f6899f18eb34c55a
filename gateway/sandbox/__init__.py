"""Both providers emulated from their own pages, on one loopback port: for `runward demo`, for tests and for benchmarks.

It is a server and nothing else: it calls nobody, so a `callback_url` is accepted and never called. What it can run, and
how to ask for a failure, is the table in `defaults`; what it was asked is counted (`calls`).
"""

from gateway.sandbox.calls import Calls, Count, ProviderCalls
from gateway.sandbox.defaults import DEFAULT_WORKFLOWS
from gateway.sandbox.server import CALLS, RunningSandbox, SandboxKeys, application, serve
from gateway.sandbox.workflows import Catalogue, Deployment, Fault, Node, NodeFailed, NodeSkipped, Question, Workflow

__all__ = [
    "CALLS",
    "DEFAULT_WORKFLOWS",
    "Calls",
    "Catalogue",
    "Count",
    "Deployment",
    "Fault",
    "Node",
    "NodeFailed",
    "NodeSkipped",
    "ProviderCalls",
    "Question",
    "RunningSandbox",
    "SandboxKeys",
    "Workflow",
    "application",
    "serve",
]
