"""Hostile input: bytes, bodies, keys, names; and its traces in logs and metrics."""
