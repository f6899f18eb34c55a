"""Connections to providers: pool, redaction of keys, passthrough."""
