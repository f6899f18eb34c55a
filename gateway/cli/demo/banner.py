"""Banner of `runward demo`: addresses, and commands to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from providers.contract import JsonValue

PROVIDER_EXAMPLES: tuple[tuple[str, dict[str, JsonValue]], ...] = (
    (
        "PromptLayer: the run is started, then polled until it ends",
        {"workflow": "support-triage", "input": {"message": "I was charged twice, please refund me"}},
    ),
    (
        "Prompt Studio: one call, answered with the result",
        {"workflow": "answer", "input": {"prompt": "what is the fastest car in the world?"}},
    ),
)
"""Title and body of `POST /run` for each provider."""
PROMPT_STUDIO_EXAMPLE: dict[str, JsonValue] = {"input": {"prompt": "what is the fastest car in the world?"}}
"""Body of a request in Prompt Studio's own API."""
OUTCOME_EXAMPLES = (
    ("falls-back", "the provider refuses, nothing is started: the fallback runs", "succeeded"),
    ("always-fails", "the run fails at the provider; it is not retried", "failed"),
    ("always-busy", "the provider refuses every attempt; nothing is paid for", "not_run"),
    ("never-answers", "no response in time; a second start could be paid for twice", "unknown"),
)
"""Workflow for each outcome: alias, behaviour, outcome."""


@dataclass(frozen=True, slots=True)
class DemoEndpoints:
    """Base URLs of a demo, the client's key, the requested ports that were in use, and whether it has traffic."""

    url: str
    ops_url: str
    sandbox_url: str
    key: str
    taken_ports: tuple[int, ...] = ()
    traffic: bool = False

    def run_command(self, body: Mapping[str, JsonValue]) -> str:
        """Shell command that posts `body` to `/run`."""
        return _curl_command(f"{self.url}/run", f"Authorization: Bearer {self.key}", body)

    def prompt_studio_command(self, body: Mapping[str, JsonValue]) -> str:
        """Shell command that runs the workflow `answer` in Prompt Studio's own API."""
        return _curl_command(f"{self.url}/v1/workflows/answer/run", f"API_KEY: {self.key}", body)

    def sdk_environment(self) -> str:
        """Shell command that points PromptLayer's SDK to the gateway."""
        return f"export PROMPTLAYER_BASE_URL={self.url} PROMPTLAYER_API_KEY={self.key}"


def _curl_command(url: str, key_header: str, body: Mapping[str, JsonValue]) -> str:
    arguments = ("curl", "-sS", url, "-H", key_header, "-H", "Content-Type: application/json", "-d", json.dumps(body))
    return " ".join(shlex.quote(word) for word in arguments)


def print_banner(endpoints: DemoEndpoints, console: Console) -> None:
    """Print the banner; commands are never wrapped."""
    console.print()
    console.print(_addresses_table(endpoints))
    for port in endpoints.taken_ports:
        console.print(f"Port {port} is in use: another one was chosen.", style="yellow")
    for title, body in PROVIDER_EXAMPLES:
        _print_command(console, title, endpoints.run_command(body))
    console.print()
    console.print(_outcomes_table())
    _print_command(
        console,
        "Apps that use Prompt Studio's API change their base URL and key",
        endpoints.prompt_studio_command(PROMPT_STUDIO_EXAMPLE),
    )
    _print_command(
        console,
        "Apps that use PromptLayer's SDK do the same, for workflows of either provider",
        endpoints.sdk_environment(),
    )
    _print_command(console, "Metrics", f"curl -sS {endpoints.ops_url}/metrics | grep ^runward_runs_total")
    console.print("\nThe key is valid for this demo only. Ctrl-C stops it.\n")


def _addresses_table(endpoints: DemoEndpoints) -> Table:
    table = Table(
        title="Runward with emulated providers: nothing leaves this machine",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("service", "URL", "endpoints"):
        table.add_column(column, overflow="fold", no_wrap=column == "URL")
    table.add_row("gateway", endpoints.url, "POST /run, for apps")
    table.add_row("documentation", f"{endpoints.url}/docs", "API reference, to try in a browser")
    watch = "runs as they happen" if endpoints.traffic else "runs as they happen; --traffic makes some"
    table.add_row("console", f"{endpoints.ops_url}/console", watch)
    table.add_row("operations", endpoints.ops_url, "/docs /metrics /healthz /readyz")
    table.add_row("sandbox", endpoints.sandbox_url, "PromptLayer and Prompt Studio; /_sandbox/calls has counters")
    return table


def _outcomes_table() -> Table:
    table = Table(title="Other workflows to run in the same way", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("workflow", "behaviour", "outcome"):
        table.add_column(column, overflow="fold")
    for row in OUTCOME_EXAMPLES:
        table.add_row(*row)
    return table


def _print_command(console: Console, title: str, command: str) -> None:
    console.print(f"\n{title}:", style="bold")
    console.print(Text(command, style="cyan"), soft_wrap=True)
