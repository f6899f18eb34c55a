"""Durable runs: journal, completion, recovery after a crash."""
