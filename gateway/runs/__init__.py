"""Runs: submission, execution, durability, callbacks."""
