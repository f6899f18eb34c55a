"""Budgets: reservation before a start, settlement by the outcome, and repair of what a process left open."""
