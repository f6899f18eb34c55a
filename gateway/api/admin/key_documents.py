"""JSON documents of stored keys."""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime

from gateway.auth.stored_keys.directory import key_state
from gateway.auth.stored_keys.terms import KeyTerms, decode_terms
from gateway.clock import format_rfc3339
from gateway.limits.config import ClientLimitsConfig, RateLimit
from gateway.store.client_key import StoredKey

_UNITS = {1.0: "s", 60.0: "m", 3600.0: "h"}
_NOT_SUPPORTED = KeyTerms("")


def key_document(key: StoredKey, now: float, clients: Container[str]) -> dict[str, object]:
    """Return a key without its text and its hash. `clients`: those of the configuration."""
    try:
        terms, supported = decode_terms(key.terms), True
    except ValueError:
        terms, supported = _NOT_SUPPORTED, False
    grace_runs = key.previous_until_at is not None and key.previous_until_at > now
    return {
        "id": key.id,
        "client": key.client,
        "name": terms.name,
        "state": key_state(key.revoked_at, key.expires_at, now, configured=key.client in clients),
        "supported": supported,
        "workflows": list(terms.workflows) or None,
        "limits": _limits(terms.limits),
        "expires": format_time(key.expires_at),
        "created": format_time(key.created_at),
        "created_by": terms.created_by,
        "rotated": format_time(key.rotated_at),
        "previous_until": format_time(key.previous_until_at) if grace_runs else None,
        "revoked": format_time(key.revoked_at),
        "last_used": format_time(key.last_used_at),
    }


def format_time(at: float | None) -> str | None:
    """Return a time in seconds since 1970 as in RFC 3339."""
    return None if at is None else format_rfc3339(datetime.fromtimestamp(at, UTC))


def _limits(limits: ClientLimitsConfig) -> dict[str, object]:
    rate = None if limits.rate is None else _rate(limits.rate)
    return {"rate": rate, "burst": limits.burst, "concurrency": limits.concurrency, "daily": limits.daily}


def _rate(rate: RateLimit) -> str:
    return f"{int(rate.count) if rate.count.is_integer() else rate.count}/{_UNITS[rate.per]}"
