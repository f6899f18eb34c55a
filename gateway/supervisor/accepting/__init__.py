"""Balanced accepting: the workers of one port take connections in turn."""
