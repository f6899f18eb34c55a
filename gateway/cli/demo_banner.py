"""What `runward demo` prints: what runs where, and lines to paste."""

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
        "PromptLayer: the run is started, then asked about until it is done",
        {"workflow": "support-triage", "input": {"message": "I was charged twice, please refund me"}},
    ),
    (
        "Prompt Studio: one call, whose answer is the result",
        {"workflow": "answer", "input": {"prompt": "what is the fastest car in the world?"}},
    ),
)
"""A title and a body of `POST /run` for each provider."""
PROMPT_STUDIO_EXAMPLE: dict[str, JsonValue] = {"input": {"prompt": "what is the fastest car in the world?"}}
"""What an app asks Prompt Studio."""
OUTCOME_EXAMPLES = (
    ("falls-back", "the provider refuses, nothing was run: the next workflow answers", "succeeded"),
    ("always-fails", "the provider says that the run failed; it is not tried again", "failed"),
    ("always-busy", "the provider refuses each time; nothing was paid for", "not_run"),
    ("never-answers", "no answer in time; a second start could be paid for twice", "unknown"),
)
"""A workflow for each way in which a run can end: its alias, what happens, the outcome."""


@dataclass(frozen=True, slots=True)
class DemoEndpoints:
    """Where a demo runs: three base URLs, the client's key, and the ports that were wanted and not free."""

    url: str
    ops_url: str
    sandbox_url: str
    key: str
    taken_ports: tuple[int, ...] = ()

    def run_command(self, body: Mapping[str, JsonValue]) -> str:
        """Write the command that posts `body`, ready for a shell."""
        return _curl_command(f"{self.url}/run", f"Authorization: Bearer {self.key}", body)

    def prompt_studio_command(self, body: Mapping[str, JsonValue]) -> str:
        """Write the command by which an app asks Prompt Studio itself for the workflow `answer`."""
        return _curl_command(f"{self.url}/v1/workflows/answer/run", f"API_KEY: {self.key}", body)

    def sdk_environment(self) -> str:
        """Write what an app on PromptLayer's SDK has to be told, ready for a shell."""
        return f"export PROMPTLAYER_BASE_URL={self.url} PROMPTLAYER_API_KEY={self.key}"


def _curl_command(url: str, key_header: str, body: Mapping[str, JsonValue]) -> str:
    arguments = ("curl", "-sS", url, "-H", key_header, "-H", "Content-Type: application/json", "-d", json.dumps(body))
    return " ".join(shlex.quote(word) for word in arguments)


def print_banner(endpoints: DemoEndpoints, console: Console) -> None:
    """Print it; the lines to paste are never broken."""
    console.print()
    console.print(_addresses_table(endpoints))
    for port in endpoints.taken_ports:
        console.print(f"Port {port} is taken: another one was chosen.", style="yellow")
    for title, body in PROVIDER_EXAMPLES:
        _print_command(console, title, endpoints.run_command(body))
    console.print()
    console.print(_outcomes_table())
    _print_command(
        console,
        "An app that speaks Prompt Studio's own API changes its base URL and key",
        endpoints.prompt_studio_command(PROMPT_STUDIO_EXAMPLE),
    )
    _print_command(
        console, "So does an app on PromptLayer's SDK, whichever provider is behind", endpoints.sdk_environment()
    )
    _print_command(console, "What was counted", f"curl -sS {endpoints.ops_url}/metrics | grep ^runward_runs_total")
    console.print("\nThe key works for this demo only. Ctrl-C stops everything.\n")


def _addresses_table(endpoints: DemoEndpoints) -> Table:
    table = Table(
        title="Runward, and both providers emulated: nothing leaves this machine",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("what", "where", "there"):
        table.add_column(column, overflow="fold")
    table.add_row("gateway", endpoints.url, "POST /run, for apps")
    table.add_row("documentation", f"{endpoints.url}/docs", "the interface, to read and to try in a browser")
    table.add_row("operations", endpoints.ops_url, "/metrics /healthz /readyz")
    table.add_row("sandbox", endpoints.sandbox_url, "PromptLayer and Prompt Studio; /_sandbox/calls counts")
    return table


def _outcomes_table() -> Table:
    table = Table(title="Other workflows to ask for, in the same way", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("workflow", "what happens", "outcome"):
        table.add_column(column, overflow="fold")
    for row in OUTCOME_EXAMPLES:
        table.add_row(*row)
    return table


def _print_command(console: Console, title: str, command: str) -> None:
    console.print(f"\n{title}:", style="bold")
    console.print(Text(command, style="cyan"), soft_wrap=True)
