"""Persistent state: runs, idempotency records, and the outbox of callbacks."""
