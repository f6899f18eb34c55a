"""Runward beside a bare relay, nginx and gateways for LLMs, in one run."""
