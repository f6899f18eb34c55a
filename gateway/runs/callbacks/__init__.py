"""Callbacks: webhook outbox with at least once delivery."""
