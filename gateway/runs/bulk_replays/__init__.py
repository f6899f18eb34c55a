"""Bulk replays: operators plan to replay many runs, and one process at a time carries a plan out."""
