"""Whose limit the last wait or refusal of this task was due to, for tracing."""

from __future__ import annotations

from contextvars import ContextVar

from gateway.limits.config import LimitScope

blocking_scope: ContextVar[LimitScope | None] = ContextVar("blocking_scope", default=None)
"""client, team, key, workflow or provider; None before the first wait."""
