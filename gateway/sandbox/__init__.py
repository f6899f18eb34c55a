"""Both providers emulated from their own pages, on one loopback port: for `runward demo`, for tests and for benchmarks.

It is a server and nothing else: who builds it may hand in what calls a `callback_url`, else nobody is called. What it
can run, and how to ask for a failure, is the table in `defaults`; what it was asked is counted (`calls`).
"""

from gateway.sandbox.callbacks import CallBack
from gateway.sandbox.calls import Calls, Count, ProviderCalls
from gateway.sandbox.defaults import DEFAULT_WORKFLOWS
from gateway.sandbox.server import CALLS, RunningSandbox, SandboxKeys, application, serve
from gateway.sandbox.workflows import Catalogue, Deployment, Fault, Node, NodeFailed, NodeSkipped, Question, Workflow

__all__ = [
    "CALLS",
    "DEFAULT_WORKFLOWS",
    "CallBack",
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
