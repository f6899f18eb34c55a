"""Tests of gateway.runs.budgets."""
