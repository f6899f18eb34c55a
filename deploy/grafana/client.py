"""Dashboard *Client*: what a client sends, and what it is answered."""

from __future__ import annotations

from deploy.grafana.panels import Board, gauge, growth, or_zero, rate

_CHOSEN = 'client=~"$client"'


def board() -> Board:
    """Return the dashboard."""
    made = Board("client", "Client", "Runs and refusals of the chosen clients, and the decisions of limits.")
    made.variable("client", "Client", "runs_total")
    made.row("Now")
    made.stat("Runs a second", "Runs that ended.", rate("runs_total", _CHOSEN), unit="ops", span=6)
    succeeded = or_zero(rate("runs_total", f'{_CHOSEN},outcome="succeeded"'))
    share = f"({succeeded}) / {rate('runs_total', _CHOSEN)}"
    made.stat("Succeeded", "Share of the runs that succeeded.", share, unit="percentunit", span=6)
    limited = or_zero(growth("refusals_total", f'{_CHOSEN},code="rate_limited"', over="1h"))
    made.stat("Refused by their limits", "Requests of the last hour beyond a limit of the client.", limited, span=6)
    unknown = or_zero(growth("runs_total", f'{_CHOSEN},outcome="unknown"', over="1h"))
    made.stat("Unknown outcomes", "Runs of the last hour that may have been paid for.", unknown, span=6)
    made.row("Runs")
    made.graph(
        "Runs by outcome",
        "Ended runs a second. not_run cost nothing; unknown may have been paid for.",
        {"{{outcome}}": rate("runs_total", _CHOSEN, "outcome")},
    )
    made.graph(
        "Runs by client", "Ended runs a second.", {"{{client}} ({{api}})": rate("runs_total", _CHOSEN, "client, api")}
    )
    made.graph(
        "Runs by workflow",
        "Ended runs a second.",
        {"{{workflow}} ({{provider}})": rate("runs_total", _CHOSEN, "workflow, provider")},
    )
    made.graph(
        "Unsuccessful runs by workflow",
        "Ended runs a second that did not succeed.",
        {"{{workflow}} {{outcome}}": rate("runs_total", f'{_CHOSEN},outcome!="succeeded"', "workflow, outcome")},
        runbooks=("RunwardRunsFailing", "RunwardUnknownOutcomes"),
    )
    _add_spend(made)
    made.row("Refusals")
    made.graph(
        "Refusals by code",
        "Answers that were a problem, a second.",
        {"{{client}} {{code}}": rate("refusals_total", _CHOSEN, "client, code")},
        span=8,
        runbooks=("RunwardClientLimited",),
    )
    made.graph(
        "Refusals without a client",
        "Answers a second to requests whose key was not recognised.",
        {"{{code}}": rate("refusals_total", 'client=""', "code")},
        span=8,
        runbooks=("RunwardBadKeys",),
    )
    made.graph(
        "Decisions of limits",
        "What the limits of all clients, workflows and providers decided, a second.",
        {"{{scope}} {{decision}}": rate("limiter_decisions_total", by="scope, decision")},
        span=8,
        runbooks=("RunwardRunsWaiting", "RunwardOverloaded"),
    )
    made.row("Stored keys")
    made.graph(
        "Stored keys by state",
        "Keys of all clients that are in the store; no_client: the client is not configured.",
        {"{{state}}": gauge("max", "keys", by="state")},
        unit="short",
    )
    made.graph(
        "Stored keys that expire soon",
        "Keys that expire within 14 days, of those made for at least 28 days.",
        {"expiring": gauge("max", "keys_expiring")},
        unit="short",
        runbooks=("RunwardKeysExpiring",),
    )
    made.row("Tokens")
    made.graph(
        "Refused tokens",
        "Signed tokens that were refused, by reason, a second.",
        {"{{reason}}": or_zero(rate("tokens_refused_total", by="reason"))},
        span=8,
    )
    made.graph(
        "Fetches of issuers' keys",
        "Fetches of the keys of each issuer, by result, a second.",
        {"{{issuer}} {{result}}": or_zero(rate("issuer_fetches_total", by="issuer, result"))},
        span=8,
        runbooks=("RunwardIssuerKeysStale",),
    )
    made.graph(
        "Age of issuers' keys",
        "Time since the keys of each issuer were fetched last, of the replica with the oldest.",
        {"{{issuer}}": or_zero("time() - " + gauge("min", "issuer_keys_timestamp_seconds", by="issuer"))},
        unit="s",
        span=8,
        runbooks=("RunwardIssuerKeysStale",),
    )
    return made


def _add_spend(made: Board) -> None:
    made.row("Spend")
    made.graph(
        "Spend by client",
        "Declared prices of the runs that ended in the hour before; what is unknown may have been paid.",
        {"{{client}}, {{certainty}}": growth("spend_total", _CHOSEN, "client, certainty", over="1h")},
        unit="short",
        span=6,
    )
    made.graph(
        "Spend by workflow",
        "Declared prices of the runs that ended in the hour before, of the chosen clients.",
        {"{{workflow}} ({{provider}})": growth("spend_total", _CHOSEN, "workflow, provider", over="1h")},
        unit="short",
        span=6,
    )
    made.graph(
        "What remains of budgets",
        "Share of each budget that remains in its window, of all clients.",
        {"{{budget}}": gauge("min", "budget_remaining_ratio", by="budget")},
        unit="percentunit",
        span=6,
        runbooks=("RunwardBudgetExhausted", "RunwardBudgetNearlySpent"),
    )
    made.graph(
        "Refusals by budgets",
        "Runs a second that had no room in a budget.",
        {"{{budget}}": or_zero(rate("budget_refusals_total", by="budget"))},
        span=6,
    )
