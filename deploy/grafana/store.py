"""Dashboard *Store and replicas*: the store, the processes, and what they drop."""

from __future__ import annotations

from deploy.grafana.panels import Board, gauge, growth, or_zero, rate, series


def board() -> Board:
    """Return the dashboard."""
    made = Board("store", "Store and replicas", "The store, callbacks, reloads and resources of each replica.")
    _add_numbers(made)
    _add_store(made)
    _add_attention(made)
    _add_callbacks(made)
    _add_replicas(made)
    return made


def _add_numbers(made: Board) -> None:
    made.row("Now")
    made.stat(
        "Store available", "Whether the store of every replica works.", gauge("min", "store_available"), good="one"
    )
    durable = gauge("min", "store_durable")
    made.stat("Store durable", "Whether what was acknowledged survives a crash of the store.", durable, good="one")
    in_use = gauge("min", "config_last_reload_success")
    made.stat("Configuration in use", "Whether every replica uses the configuration on disk.", in_use, good="one")
    dropped = growth("history_dropped_total", over="1h")
    made.stat("History dropped", "Records of runs that were dropped in the last hour.", dropped, good="zero")
    lines = growth("log_lines_dropped_total", over="1h")
    made.stat("Log lines dropped", "Log lines that were dropped in the last hour.", lines, good="zero")
    lost = or_zero(growth("workers_lost_total", over="1h"))
    made.stat("Workers lost", "Worker processes that ended unexpectedly in the last hour.", lost, good="zero")


def _add_store(made: Board) -> None:
    made.row("Store")
    made.graph(
        "Availability",
        "1 where the store works, by replica.",
        {"{{instance}}": gauge("min", "store_available", by="instance")},
        unit="short",
        span=8,
        runbooks=("RunwardStoreUnavailable",),
    )
    made.graph(
        "Durability, shared limits",
        "1 where it holds, by replica.",
        {
            "durable {{instance}}": gauge("min", "store_durable", by="instance"),
            "shared {{instance}}": gauge("min", "limits_shared", by="instance"),
        },
        unit="short",
        span=8,
        runbooks=("RunwardStoreNotDurable",),
    )
    made.graph(
        "Unreadable content and dropped records",
        "Content that cannot be decrypted; dropped records of runs, contents, audit records and settlements; a second.",
        {
            "unreadable": or_zero(rate("unreadable_content_total")),
            "record dropped {{instance}}": rate("history_dropped_total", by="instance"),
            "content of record dropped {{instance}}": rate("history_content_dropped_total", by="instance"),
            "audit {{reason}} {{instance}}": rate("audit_records_dropped_total", by="reason, instance"),
            "settlement dropped": or_zero(rate("budget_settlements_dropped_total")),
        },
        span=8,
        runbooks=("RunwardContentUnreadable", "RunwardHistoryDropped", "RunwardAuditRecordsDropped"),
    )


def _add_attention(made: Board) -> None:
    made.row("Attention")
    made.graph(
        "Items that need attention",
        "Items of the attention list, by kind.",
        {"{{kind}}": gauge("max", "attention_items", by="kind")},
        unit="short",
        span=8,
        runbooks=("RunwardAttentionGrowing",),
    )


def _add_callbacks(made: Board) -> None:
    made.row("Callbacks and logs")
    made.graph(
        "Callbacks by result",
        "Callbacks tried a second, and those given up.",
        {
            "{{result}}": rate("callbacks_total", by="result"),
            "given up": or_zero(rate("callbacks_given_up_total")),
        },
        runbooks=("RunwardCallbacksGivenUp",),
    )
    made.graph(
        "Log lines dropped by replica",
        "Log lines a second that could not be written, by replica.",
        {"{{instance}}": rate("log_lines_dropped_total", by="instance")},
    )


def _add_replicas(made: Board) -> None:
    made.row("Replicas")
    made.graph(
        "Requests by route",
        "Requests answered a second.",
        {"{{route}} {{status}}": rate("requests_total", by="route, status")},
        span=8,
    )
    made.graph(
        "Requests in flight",
        "Requests for runs that are not answered yet, by replica.",
        {"{{instance}}": gauge("sum", "requests_in_flight", by="instance")},
        unit="short",
        span=8,
        runbooks=("RunwardOverloaded",),
    )
    made.graph(
        "Bytes in flight",
        "Bytes held for bodies, answers and responses, by replica.",
        {"{{instance}}": gauge("sum", "bytes_in_flight", by="instance")},
        unit="bytes",
        span=8,
        runbooks=("RunwardOverloaded",),
    )
    made.graph(
        "Reloads",
        "Configurations that were applied or refused.",
        {"{{result}} {{instance}}": growth("config_reloads_total", by="result, instance")},
        unit="short",
        span=8,
        runbooks=("RunwardReloadRefused",),
    )
    made.graph(
        "Workers replaced",
        "Worker processes that ended unexpectedly and were replaced.",
        {"lost": or_zero(growth("workers_lost_total"))},
        unit="short",
        span=8,
        runbooks=("RunwardWorkersDying",),
    )
    made.graph(
        "Versions",
        "Replicas by version of the gateway and of Python.",
        {"{{version}}, Python {{python}}": f"count by (version, python) ({series('build_info')})"},
        unit="short",
        span=8,
    )
