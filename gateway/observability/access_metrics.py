"""Metrics of access: stored keys, tokens and their issuers, and audit records."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from gateway.observability.metric_families import MetricFamilies


class AccessMetrics(MetricFamilies):
    """Metrics of the keys and tokens that clients present, and of the records of what operators change."""

    def __init__(self) -> None:
        super().__init__()
        self._issuer_fetches = self._counter(
            "issuer_fetches", "Fetches of the keys of issuers, by result.", "issuer", "result"
        )
        self._issuer_keys = self._gauge(
            "issuer_keys_timestamp_seconds", "Unix time of the last fetch of an issuer's keys; 0 before it.", "issuer"
        )
        self._tokens_refused = self._counter("tokens_refused", "Tokens that were refused, by reason.", "reason")
        self._audit_records_dropped = self._counter(
            "audit_records_dropped", "Audit records that were not stored, by reason.", "reason"
        )
        for reason in ("queue_full", "shutdown", "defect", "refusals"):
            self._audit_records_dropped.counts[(reason,)] = 0
        self._stored_keys = self._gauge("keys", "Stored keys of clients, by state.", "state")
        self._keys_expiring = self._gauge("keys_expiring", "Stored keys of clients that expire within 14 days.")

    def audit_record_dropped(self, reason: str) -> None:
        """Count an audit record that is not stored: queue_full, shutdown, defect or refusals."""
        self._audit_records_dropped.counts[(reason,)] += 1

    def set_stored_keys(self, counts: Mapping[str, int], expiring: int) -> None:
        """Set the numbers of stored keys: by state (active, expired, revoked, no_client), and that expire soon."""
        self._keys_expiring.set(expiring)
        for state in ("active", "expired", "revoked", "no_client"):
            self._stored_keys.labels(state).set(counts.get(state, 0))

    def issuer_fetch_ended(self, issuer: str, result: str) -> None:
        """Count a fetch of an issuer's keys: `result` is ok or failed."""
        self._issuer_fetches.counts[issuer, result] += 1

    def issuer_keys_fetched(self, issuer: str, timestamp: float) -> None:
        """Record when an issuer's keys were fetched, in seconds since 1970; 0 if they never were."""
        self._issuer_keys.labels(issuer).set(timestamp)

    def issuer_removed(self, issuer: str) -> None:
        """Forget an issuer that is no longer configured."""
        with suppress(KeyError):
            self._issuer_keys.remove(issuer)

    def token_refused(self, reason: str) -> None:
        """Count a token that was refused."""
        self._tokens_refused.counts[(reason,)] += 1
