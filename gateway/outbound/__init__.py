"""Outbound connections: providers and webhook receivers."""
