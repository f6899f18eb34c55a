"""Connections to webhook receivers, with SSRF protection."""
