"""Runward's adapter for Echo Queue, a provider that exists for this example only."""
