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

PROVIDERS: tuple[tuple[str, dict[str, JsonValue]], ...] = (
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
STUDIO: dict[str, JsonValue] = {"input": {"prompt": "what is the fastest car in the world?"}}
"""What an app asks Prompt Studio."""
MORE = (
    ("falls-back", "the provider refuses, nothing was run: the next workflow answers", "succeeded"),
    ("always-fails", "the provider says that the run failed; it is not tried again", "failed"),
    ("always-busy", "the provider refuses each time; nothing was paid for", "not_run"),
    ("never-answers", "no answer in time; a second start could be paid for twice", "unknown"),
)
"""A workflow for each way in which a run can end: its alias, what happens, the outcome."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a demo runs: three base URLs, the client's key, and the ports that were wanted and not free."""

    url: str
    ops_url: str
    sandbox_url: str
    key: str
    taken: tuple[int, ...] = ()

    def curl(self, body: Mapping[str, JsonValue]) -> str:
        """Write the command that posts `body`, ready for a shell."""
        return _curl(f"{self.url}/run", f"Authorization: Bearer {self.key}", body)

    def studio(self, body: Mapping[str, JsonValue]) -> str:
        """Write the command by which an app asks Prompt Studio itself for the workflow `answer`."""
        return _curl(f"{self.url}/v1/workflows/answer/run", f"API_KEY: {self.key}", body)

    def variables(self) -> str:
        """Write what an app on PromptLayer's SDK has to be told, ready for a shell."""
        return f"export PROMPTLAYER_BASE_URL={self.url} PROMPTLAYER_API_KEY={self.key}"


def _curl(url: str, key: str, body: Mapping[str, JsonValue]) -> str:
    words = ("curl", "-sS", url, "-H", key, "-H", "Content-Type: application/json", "-d", json.dumps(body))
    return " ".join(shlex.quote(word) for word in words)


def print_page(place: Place, console: Console) -> None:
    """Print it; the lines to paste are never broken."""
    console.print()
    console.print(_addresses(place))
    for port in place.taken:
        console.print(f"Port {port} is taken: another one was chosen.", style="yellow")
    for title, body in PROVIDERS:
        _paste(console, title, place.curl(body))
    console.print()
    console.print(_more())
    _paste(console, "An app that speaks Prompt Studio's own API changes its base URL and key", place.studio(STUDIO))
    _paste(console, "So does an app on PromptLayer's SDK, whichever provider is behind", place.variables())
    _paste(console, "What was counted", f"curl -sS {place.ops_url}/metrics | grep ^runward_runs_total")
    console.print("\nThe key works for this demo only. Ctrl-C stops everything.\n")


def _addresses(place: Place) -> Table:
    table = Table(
        title="Runward, and both providers emulated: nothing leaves this machine",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("what", "where", "there"):
        table.add_column(column, overflow="fold")
    table.add_row("gateway", place.url, "POST /run, for apps")
    table.add_row("documentation", f"{place.url}/docs", "the interface, to read and to try in a browser")
    table.add_row("operations", place.ops_url, "/metrics /healthz /readyz")
    table.add_row("sandbox", place.sandbox_url, "PromptLayer and Prompt Studio; /_sandbox/calls counts")
    return table


def _more() -> Table:
    table = Table(title="Other workflows to ask for, in the same way", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("workflow", "what happens", "outcome"):
        table.add_column(column, overflow="fold")
    for row in MORE:
        table.add_row(*row)
    return table


def _paste(console: Console, title: str, line: str) -> None:
    console.print(f"\n{title}:", style="bold")
    console.print(Text(line, style="cyan"), soft_wrap=True)
