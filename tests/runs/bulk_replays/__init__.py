"""Bulk replays."""
