"""Budgets of gateways: never exceeded, whatever is asked of how many replicas, and whatever becomes of them."""
