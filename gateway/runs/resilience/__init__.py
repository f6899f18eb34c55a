"""Retry table, retry budget and circuit breaker."""
