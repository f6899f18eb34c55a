"""Metrics: names, labels, and a bounded number of series."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.observability.metrics import TEXT_CONTENT_TYPE, Metrics
from tests.support.examples import examples
from tests.support.process import metric_sum, parse_metrics

# Dashboards and alerts are written against these; a change here breaks them.
FAMILIES = {
    "runward_requests": ("counter", {"route", "status"}),
    "runward_refusals": ("counter", {"client", "code"}),
    "runward_runs": ("counter", {"client", "workflow", "provider", "outcome", "api"}),
    "runward_run_errors": ("counter", {"provider", "code", "fault"}),
    "runward_followed_runs": ("counter", {"provider", "outcome"}),
    "runward_run_duration_seconds": ("histogram", {"workflow", "provider"}),
    "runward_overhead_seconds": ("histogram", set()),
    "runward_upstream_calls": ("counter", {"provider", "operation", "result"}),
    "runward_upstream_call_duration_seconds": ("histogram", {"provider", "operation"}),
    "runward_refused_replies": ("counter", {"provider", "operation", "cause"}),
    "runward_retries": ("counter", {"provider", "operation", "cause"}),
    "runward_fallbacks": ("counter", {"workflow", "fallback"}),
    "runward_attention_items": ("gauge", {"kind"}),
    "runward_circuit_state": ("gauge", {"provider", "workflow", "state"}),
    "runward_keys": ("gauge", {"state"}),
    "runward_keys_expiring": ("gauge", set()),
    "runward_provider_override": ("gauge", {"provider", "mode"}),
    "runward_callbacks": ("counter", {"result"}),
    "runward_callbacks_given_up": ("counter", set()),
    "runward_uncollected_results": ("counter", {"provider"}),
    "runward_history_dropped": ("counter", set()),
    "runward_audit_records_dropped": ("counter", {"reason"}),
    "runward_unreadable_content": ("counter", {"content"}),
    "runward_hints": ("counter", {"result"}),
    "runward_hints_used": ("counter", set()),
    "runward_limiter_decisions": ("counter", {"scope", "decision"}),
    "runward_workers_lost": ("counter", set()),
    "runward_history_content_dropped": ("counter", set()),
    "runward_log_lines_dropped": ("counter", set()),
    "runward_runs_in_progress": ("gauge", {"provider"}),
    "runward_requests_in_flight": ("gauge", set()),
    "runward_bytes_in_flight": ("gauge", set()),
    "runward_store_available": ("gauge", set()),
    "runward_store_durable": ("gauge", set()),
    "runward_limits_shared": ("gauge", set()),
    "runward_issuer_fetches": ("counter", {"issuer", "result"}),
    "runward_issuer_keys_timestamp_seconds": ("gauge", {"issuer"}),
    "runward_tokens_refused": ("counter", {"reason"}),
    "runward_config_reloads": ("counter", {"result"}),
    "runward_config_last_reload_success": ("gauge", set()),
    "runward_config_last_reload_success_timestamp_seconds": ("gauge", set()),
    "runward_spend": ("counter", {"client", "workflow", "provider", "certainty"}),
    "runward_budget_refusals": ("counter", {"budget"}),
    "runward_budget_settlements_dropped": ("counter", set()),
    "runward_budget_remaining_ratio": ("gauge", {"budget"}),
    "runward_build_info": ("gauge", {"version", "python"}),
}


def record_each_metric_once(metrics: Metrics) -> None:
    """Record one sample of each metric."""
    metrics.request_ended("run", 200)
    metrics.request_refused("one", "overloaded")
    metrics.run_ended("one", "w", "p", "succeeded", api="promptlayer")
    metrics.run_error("p", "upstream_timeout")
    metrics.followed_run_ended("p", "failed")
    metrics.observe_run_duration("w", "p", 1.5, 0.001)
    metrics.call_ended("p", "start", "ok", 1.4)
    metrics.reply_refused("p", "start", "throttled")
    metrics.call_retried("p", "start", "unreachable")
    metrics.run_fell_back("w", "other")
    metrics.track_circuit("p", "w")
    metrics.set_stored_keys({"active": 2}, 1)
    metrics.attention_found({"circuit_open": 1})
    metrics.in_progress["p",] += 1
    metrics.provider_overridden("p", "suspended")
    metrics.callback_attempted("2xx")
    metrics.callback_given_up()
    metrics.result_not_collected("p")
    metrics.content_unreadable("order")
    metrics.hint_received("genuine")
    metrics.hint_used()
    metrics.limit_decided("client", "admitted")
    metrics.history_dropped(1)
    metrics.audit_record_dropped("refusals")
    metrics.run_cost("one", "w", "p", spent=40_000, unknown=40_000)
    metrics.budget_refused("all")
    metrics.budget_used("all", 90, 100)
    metrics.worker_lost()
    metrics.set_limits_shared(1)
    metrics.issuer_fetch_ended("kubernetes", "ok")
    metrics.issuer_keys_fetched("kubernetes", 1.0)
    metrics.token_refused("token_expired")
    metrics.config_reloaded(datetime(2026, 11, 21, tzinfo=UTC))


def samples(metrics: Metrics) -> list[Sample]:
    """Return the samples of a scrape, without creation times."""
    return [s for s in parse_metrics(metrics.render().decode()) if not s.name.endswith("_created")]


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels."""
    return metric_sum(samples(metrics), name, **labels)


def test_the_names_and_labels_are_those_that_dashboards_use() -> None:
    metrics = Metrics()
    record_each_metric_once(metrics)
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        labels = {label for s in family.samples for label in s.labels} - {"le"}
        if not family.name.endswith("_created"):
            found[family.name] = (family.type, labels)
    assert found == FAMILIES


def test_every_family_says_what_it_counts() -> None:
    """Rules of `promtool check metrics`: help texts, and names with units."""
    metrics = Metrics()
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation.endswith(".") or family.name.endswith("_created"), family.name


def test_nothing_is_counted_before_anything_happened() -> None:
    assert [0, 1] == sorted({s.value for s in samples(Metrics())})


def test_each_call_counts_one() -> None:
    metrics = Metrics()
    record_each_metric_once(metrics)
    record_each_metric_once(metrics)
    assert 2 == value(metrics, "runward_requests_total", route="run", status="200")
    assert 2 == value(metrics, "runward_refusals_total", client="one", code="overloaded")
    assert 2 == value(metrics, "runward_runs_total", client="one", workflow="w", provider="p", outcome="succeeded")
    assert 2 == value(metrics, "runward_run_errors_total", provider="p", code="upstream_timeout", fault="provider")
    assert 2 == value(metrics, "runward_upstream_calls_total", provider="p", operation="start", result="ok")
    assert 2 == value(metrics, "runward_retries_total", provider="p", operation="start", cause="unreachable")
    assert 2 == value(metrics, "runward_fallbacks_total", workflow="w", fallback="other")
    assert 2 == value(metrics, "runward_limiter_decisions_total", scope="client", decision="admitted")


def test_durations_are_put_into_buckets() -> None:
    metrics = Metrics()
    record_each_metric_once(metrics)
    assert (1, 1.5) == (
        value(metrics, "runward_run_duration_seconds_count", workflow="w", provider="p"),
        value(metrics, "runward_run_duration_seconds_sum", workflow="w", provider="p"),
    )
    assert 0 == value(metrics, "runward_run_duration_seconds_bucket", le="1.0")
    assert 1 == value(metrics, "runward_run_duration_seconds_bucket", le="2.5")
    assert 1.4 == value(metrics, "runward_upstream_call_duration_seconds_sum", provider="p", operation="start")
    assert 0.001 == value(metrics, "runward_overhead_seconds_sum")


def test_the_buckets_reach_as_far_as_runs_may_last() -> None:
    """R96: up to runs of half an hour; the overhead from 100 us on."""
    metrics = Metrics()
    record_each_metric_once(metrics)
    bounds = {
        name: sorted({float(s.labels["le"]) for s in samples(metrics) if s.name == f"{name}_bucket"})
        for name in ("runward_run_duration_seconds", "runward_upstream_call_duration_seconds")
    }
    for found in bounds.values():
        assert 1800 == found[-2]
    overhead = [float(s.labels["le"]) for s in samples(metrics) if s.name == "runward_overhead_seconds_bucket"]
    assert 0.0001 == min(overhead)


def test_in_flight_is_read_at_the_scrape() -> None:
    metrics, count = Metrics(), [0]
    metrics.track_in_flight(lambda: count[0])
    count[0] = 7
    assert 7 == value(metrics, "runward_requests_in_flight")


def test_bytes_in_flight_are_read_at_the_scrape() -> None:
    metrics, count = Metrics(), [0]
    metrics.track_bytes_in_flight(lambda: count[0])
    count[0] = 7
    assert 7 == value(metrics, "runward_bytes_in_flight")


def test_the_states_of_circuits_are_the_worst_that_a_worker_reports() -> None:
    metrics = Metrics()
    metrics.track_circuit("p", "w")("open")
    metrics.track_circuit("p", "v")("half_open")
    metrics.track_circuit("q", "w")
    merged = {name: dict(values) for name, values in metrics.export().items()}
    merged["runward_circuit_state"]["p", "w", "closed"] = (1.0,)
    assert {"p": {"w": "open", "v": "half_open"}, "q": {"w": "closed"}} == Metrics.from_export(merged).circuit_states()


def test_a_circuit_is_in_one_state_at_a_time() -> None:
    metrics = Metrics()
    become = metrics.track_circuit("p", "w")
    for state in ("closed", "open", "half_open", "closed"):
        become(state)
        shown = {s.labels["state"]: s.value for s in samples(metrics) if s.name == "runward_circuit_state"}
        assert {"closed": 0, "open": 0, "half_open": 0, state: 1} == shown


def test_a_refused_configuration_shows_until_one_is_applied() -> None:
    """R100: the time is that of the active configuration; a rejected reload does not change it."""
    metrics, began = Metrics(), datetime(2026, 11, 21, tzinfo=UTC)
    seen = []

    def look() -> None:
        seen.append(
            tuple(
                int(value(metrics, f"runward_config_{name}"))
                for name in ("last_reload_success", "last_reload_success_timestamp_seconds", "reloads_total")
            )
        )

    metrics.config_loaded(began)
    look()
    metrics.config_reload_refused()
    look()
    metrics.config_reloaded(began + timedelta(seconds=60))
    look()
    start = int(began.timestamp())
    assert [(1, start, 0), (0, start, 1), (1, start + 60, 2)] == seen


def test_two_sets_of_metrics_know_nothing_of_each_other() -> None:
    """Each has its own registry."""
    one, two = Metrics(), Metrics()
    record_each_metric_once(one)
    assert 0 == value(two, "runward_requests_total")


def test_exported_metrics_can_be_restored() -> None:
    """Each number of each family, by a way through plain data; a family that is not known here is left out."""
    metrics = Metrics()
    record_each_metric_once(metrics)
    metrics.track_in_flight(lambda: 3)
    shown = Metrics.from_export({**metrics.export(), "runward_unheard_of": {("a",): (1.0,)}})
    assert samples(metrics) == samples(shown)


def test_a_histogram_with_other_bounds_is_not_shown() -> None:
    """Its buckets could not be merged correctly."""
    shown = Metrics.from_export({"runward_overhead_seconds": {(): (1.0, 2.0, 3.0)}})
    assert 0 == value(shown, "runward_overhead_seconds_count")


ROUTES, STATUSES = ["run", "healthz", "unknown"], [200, 404, 503]
NAMES, OUTCOMES = ["a", "b", ""], ["succeeded", "failed", "unknown", "not_run"]
EVENTS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(ROUTES), st.sampled_from(STATUSES)),
    st.tuples(st.just("run"), st.sampled_from(NAMES), st.sampled_from(OUTCOMES)),
    st.tuples(st.just("call"), st.sampled_from(NAMES), st.sampled_from(["ok", "timeout"])),
)


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_the_sums_equal_the_recorded_events(events: list[tuple[str, str, str | int]]) -> None:
    """R92: in any order of events, each sum is exact, and no label gets the counts of another one."""
    metrics = Metrics()
    for kind, name, word in events:
        if kind == "request":
            metrics.request_ended(name, int(word))
        elif kind == "run":
            metrics.run_ended("one", name, "p", str(word))
        else:
            metrics.call_ended("p", name, str(word), 0.1)
    told = Counter((kind, name, str(word)) for kind, name, word in events)
    counted: Counter[tuple[str, str, str]] = Counter()
    for s in samples(metrics):
        if s.name == "runward_requests_total":
            counted["request", s.labels["route"], s.labels["status"]] += int(s.value)
        elif s.name == "runward_runs_total":
            counted["run", s.labels["workflow"], s.labels["outcome"]] += int(s.value)
        elif s.name == "runward_upstream_calls_total":
            counted["call", s.labels["operation"], s.labels["result"]] += int(s.value)
    assert told == counted


def test_what_happens_again_makes_no_new_series() -> None:
    """R93: the number of series is the number of label values."""
    metrics = Metrics()
    record_each_metric_once(metrics)
    before = len(samples(metrics))
    for _ in range(1000):
        record_each_metric_once(metrics)
    assert before == len(samples(metrics))


def test_label_values_are_escaped() -> None:
    """The client label is the name in the configuration."""
    metrics = Metrics()
    metrics.request_refused('a"b\\c\nd', "forbidden")
    assert 1 == value(metrics, "runward_refusals_total", client='a"b\\c\nd')


def test_the_build_is_exposed() -> None:
    [build] = [s for s in samples(Metrics()) if s.name == "runward_build_info"]
    assert (1, True) == (build.value, build.labels["version"] != "")


def test_the_content_type_is_prometheus_text() -> None:
    assert TEXT_CONTENT_TYPE.startswith("text/plain; version=")
