"""Dashboard *Overview*: whether runs succeed, and what is at fault where they do not."""

from __future__ import annotations

from deploy.grafana.panels import Board, gauge, growth, or_zero, quantile, rate, scraped

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_NOT_CLOSED = 'state=~"open|half_open"'
_REFUSED_FIRST = rate("run_errors_total", 'provider="",fault="gateway"')
_REQUESTED = f"({rate('runs_total')} + ({or_zero(_REFUSED_FIRST)}))"


def board() -> Board:
    """Return the dashboard."""
    made = Board(
        "overview",
        "Overview",
        "Whether runs succeed, and whether the gateway or a provider is at fault where they do not.",
    )
    _add_numbers(made)
    _add_faults(made)
    _add_runs(made)
    _add_providers(made)
    return made


def _share(fault: str) -> str:
    failed = rate("run_errors_total", f'fault="{fault}"')
    return f"({or_zero(failed)}) / {_REQUESTED}"


def _add_numbers(made: Board) -> None:
    made.row("Now")
    made.stat("Replicas", "Replicas that answer a scrape.", scraped(), good="one")
    made.stat("Runs a second", "Runs that ended, over all replicas.", rate("runs_total"), unit="ops")
    made.stat("Fault of the gateway", "Share of the runs that failed by it.", _share("gateway"), unit="percentunit")
    made.stat("Fault of the provider", "Share of the runs that failed by it.", _share("provider"), unit="percentunit")
    unknown = or_zero(growth("runs_total", 'outcome="unknown"', over="1h"))
    made.stat("Unknown outcomes", "Runs of the last hour that may have been paid for without a result.", unknown)
    made.stat("In flight", "Requests for runs that are not answered yet.", gauge("sum", "requests_in_flight"))
    circuits = f"count({gauge('max', 'circuit_state', _NOT_CLOSED, 'provider, workflow')} == 1)"
    made.stat(
        "Circuits open", "Workflows that are not started: nearly all starts failed.", or_zero(circuits), good="zero"
    )
    overrides = f"count({gauge('max', 'provider_override', by='provider')} == 1)"
    made.stat(
        "Overrides", "Providers that an operator has suspended, opened or closed.", or_zero(overrides), good="zero"
    )
    made.stat(
        "Store available", "Whether the store of every replica works.", gauge("min", "store_available"), good="one"
    )
    durable = gauge("min", "store_durable")
    made.stat("Store durable", "Whether what was acknowledged survives a crash of the store.", durable, good="one")
    attention = f"sum({gauge('max', 'attention_items', by='kind')})"
    made.stat("Needs attention", "Items that need an operator; the console lists them.", attention, good="zero")
    in_use = gauge("min", "config_last_reload_success")
    made.stat("Configuration in use", "Whether every replica uses the configuration on disk.", in_use, good="one")
    given_up = or_zero(growth("callbacks_given_up_total", over="1h"))
    made.stat("Callbacks given up", "Callbacks of the last hour that are not tried any more.", given_up, good="zero")


def _add_faults(made: Board) -> None:
    made.row("The gateway or the provider")
    failed = rate("run_errors_total", 'fault!="none"', "fault")
    shares = f"{failed} / on () group_left () {_REQUESTED}"
    made.graph(
        "Failed runs by fault",
        "Share of the runs that failed, by what they count against.",
        {"{{fault}}": shares},
        unit="percentunit",
        span=8,
        runbooks=("RunwardBudgetBurning", "RunwardBudgetShrinking"),
    )
    made.graph(
        "Failed runs by code",
        "Runs that did not succeed a second, and requests that were refused before there was a run.",
        {"{{fault}}: {{code}}": rate("run_errors_total", by="fault, code")},
        span=8,
    )
    made.graph(
        "Use of the error budget",
        "How many times faster than the objective allows; empty unless the alert rules are loaded.",
        {f"{{{{fault}}}}, {hours} h": f"runward:slo_burn:ratio{hours * 60}m" for hours in (1, 6, 72)},
        unit="short",
        span=8,
        runbooks=("RunwardBudgetBurning", "RunwardBudgetShrinking"),
    )


def _add_runs(made: Board) -> None:
    made.row("Runs")
    made.graph(
        "Runs by outcome",
        "Ended runs a second. not_run cost nothing; unknown may have been paid for.",
        {"{{outcome}}": rate("runs_total", by="outcome")},
        span=8,
        runbooks=("RunwardUnknownOutcomes", "RunwardRunsFailing", "RunwardRunsNotStarted"),
    )
    made.graph(
        "Duration of runs",
        "From the request's arrival to the end of its run.",
        {name: quantile(share, "run_duration") for name, share in _QUANTILES.items()},
        unit="s",
        span=8,
    )
    made.graph(
        "Own overhead",
        "The part of the duration that was not spent waiting; normally about 1 ms.",
        {name: quantile(share, "overhead") for name, share in _QUANTILES.items()},
        unit="s",
        span=8,
        runbooks=("RunwardOverheadHigh", "RunwardOverloaded"),
    )
    made.graph(
        "Runs by workflow",
        "Ended runs a second.",
        {"{{workflow}} ({{provider}})": rate("runs_total", by="workflow, provider")},
    )
    made.graph(
        "Requests in flight",
        "Requests for runs that are not answered yet, by replica.",
        {"{{instance}}": gauge("sum", "requests_in_flight", by="instance")},
        unit="short",
    )


def _add_providers(made: Board) -> None:
    made.row("Providers")
    made.graph(
        "Calls by result",
        "Calls to providers a second; ok means that an answer came.",
        {"{{provider}} {{result}}": rate("upstream_calls_total", by="provider, result")},
        span=8,
    )
    made.graph(
        "Fallbacks",
        "Runs that went on with another workflow, a second.",
        {"{{workflow}} to {{fallback}}": rate("fallbacks_total", by="workflow, fallback")},
        span=8,
        runbooks=("RunwardFallbacksInUse",),
    )
    made.graph(
        "Circuits",
        "1 while the circuit of a workflow is open or half open.",
        {"{{workflow}} ({{provider}})": gauge("max", "circuit_state", _NOT_CLOSED, "provider, workflow")},
        unit="short",
        span=8,
        runbooks=("RunwardCircuitOpen",),
    )
