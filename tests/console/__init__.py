"""Journeys through the console in a browser."""
