"""Dashboard *Provider*: how calls to a provider end, and what the gateway does about it."""

from __future__ import annotations

from deploy.grafana.panels import Board, gauge, growth, or_zero, quantile, rate

_CHOSEN = 'provider=~"$provider"'
_NOT_CLOSED = f'{_CHOSEN},state=~"open|half_open"'


def board() -> Board:
    """Return the dashboard."""
    made = Board("provider", "Provider", "Circuits, calls, retries and hints of the chosen providers.")
    made.variable("provider", "Provider", "upstream_calls_total")
    _add_numbers(made)
    _add_calls(made)
    _add_reactions(made)
    _add_runs(made)
    return made


def _add_numbers(made: Board) -> None:
    made.row("Now")
    made.stat("Calls a second", "Calls to the providers.", rate("upstream_calls_total", _CHOSEN), unit="ops")
    unanswered = or_zero(rate("upstream_calls_total", f'{_CHOSEN},result!="ok"'))
    share = f"({unanswered}) / {rate('upstream_calls_total', _CHOSEN)}"
    made.stat("Calls without answer", "Share of the calls to which no answer came.", share, unit="percentunit")
    refused = or_zero(rate("refused_replies_total", _CHOSEN))
    share = f"({refused}) / {rate('upstream_calls_total', _CHOSEN)}"
    made.stat("Refused replies", "Share of the calls whose answer was an error.", share, unit="percentunit")
    in_progress = gauge("sum", "runs_in_progress", _CHOSEN)
    made.stat("In progress", "Runs at the providers that have not ended.", in_progress)
    unknown = or_zero(growth("runs_total", f'{_CHOSEN},outcome="unknown"', over="1h"))
    made.stat("Unknown outcomes", "Runs of the last hour that may have been paid for without a result.", unknown)
    circuits = f"count({gauge('max', 'circuit_state', _NOT_CLOSED, 'provider, workflow')} == 1)"
    made.stat(
        "Circuits open", "Workflows that are not started: nearly all starts failed.", or_zero(circuits), good="zero"
    )
    overrides = f"count({gauge('max', 'provider_override', _CHOSEN, 'provider')} == 1)"
    made.stat(
        "Overrides", "Providers that an operator has suspended, opened or closed.", or_zero(overrides), good="zero"
    )


def _add_calls(made: Board) -> None:
    made.row("Calls")
    made.graph(
        "Calls by result",
        "Calls a second; ok means that an answer came.",
        {"{{provider}} {{operation}} {{result}}": rate("upstream_calls_total", _CHOSEN, "provider, operation, result")},
        runbooks=("RunwardNoSafeConnection",),
    )
    made.graph(
        "Refused replies by cause",
        "Answers that said no or made no sense, a second.",
        {"{{provider}} {{operation}} {{cause}}": rate("refused_replies_total", _CHOSEN, "provider, operation, cause")},
        runbooks=("RunwardCredentialsRefused",),
    )
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        made.graph(
            f"Duration of calls ({name})",
            "How long calls took, by operation.",
            {"{{provider}} {{operation}}": quantile(share, "upstream_call_duration", _CHOSEN, "provider, operation")},
            unit="s",
            span=8,
            runbooks=("RunwardProviderSlow",) if name == "p95" else (),
        )


def _add_reactions(made: Board) -> None:
    made.row("What the gateway does")
    made.graph(
        "Circuits",
        "1 while the circuit of a workflow is open or half open.",
        {
            "{{workflow}} ({{provider}}) {{state}}": gauge(
                "max", "circuit_state", _NOT_CLOSED, "provider, workflow, state"
            )
        },
        unit="short",
        span=8,
        runbooks=("RunwardCircuitOpen",),
    )
    made.graph(
        "Override",
        "1 for what an operator has set; no series without one.",
        {"{{provider}} {{mode}}": gauge("max", "provider_override", _CHOSEN, "provider, mode")},
        unit="short",
        span=8,
        runbooks=("RunwardProviderOverridden",),
    )
    made.graph(
        "Retries by cause",
        "Calls made again, a second.",
        {"{{provider}} {{operation}} {{cause}}": rate("retries_total", _CHOSEN, "provider, operation, cause")},
        span=8,
        runbooks=("RunwardRetriesHigh",),
    )
    polls = rate("upstream_calls_total", f'{_CHOSEN},operation="poll"', "provider")
    made.graph("Polls", "Questions about runs that were started, a second.", {"{{provider}}": polls}, span=8)
    made.graph(
        "Hints",
        "Messages of providers that a run has ended, a second, over all providers; used ones led to a poll at once.",
        {"{{result}}": rate("hints_total", by="result"), "used": or_zero(rate("hints_used_total"))},
        span=8,
    )
    decisions = rate("limiter_decisions_total", 'scope!="client"', "scope, decision")
    made.graph(
        "Decisions of limits",
        "What the limits of all workflows and providers decided, a second.",
        {"{{scope}} {{decision}}": decisions},
        span=8,
        runbooks=("RunwardRunsWaiting",),
    )


def _add_runs(made: Board) -> None:
    made.row("Runs")
    made.graph(
        "Runs by outcome",
        "Ended runs a second. not_run cost nothing; unknown may have been paid for.",
        {"{{outcome}}": rate("runs_total", _CHOSEN, "outcome")},
        runbooks=("RunwardUnknownOutcomes", "RunwardRunsFailing", "RunwardRunsNotStarted"),
    )
    made.graph(
        "Failed runs by code",
        "Runs that did not succeed a second, by what they count against.",
        {"{{provider}}: {{code}} ({{fault}})": rate("run_errors_total", _CHOSEN, "provider, code, fault")},
    )
    made.graph(
        "Followed runs",
        "Runs that ended after their deadline had passed, a second.",
        {"{{provider}} {{outcome}}": rate("followed_runs_total", _CHOSEN, "provider, outcome")},
    )
    made.graph(
        "Uncollected results",
        "Runs through PromptLayer's API whose result no client has fetched, a second.",
        {"uncollected": or_zero(rate("uncollected_results_total", _CHOSEN))},
    )
