"""Polling of runs at a provider: schedule, timer, hints of the provider."""
