"""Hostile input: bytes, bodies, keys and names, and its traces in logs and metrics."""
