"""Acts of the operations port that cost money or give access: refused where anything on the network could do them."""

from __future__ import annotations

from gateway.problems import Problem
from gateway.settings import Settings

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def require_protected_port(settings: Settings, what: str) -> None:
    """Raise Problem (forbidden) unless the port asks for a key or a log-in, or is on a loopback address.

    `what`: what is done, as the beginning of a sentence in the passive voice.
    """
    server = settings.server
    if not server.ops_keys and settings.console.login is None and server.ops_host not in _LOOPBACK:
        raise Problem("forbidden", f"Without server.ops_keys, {what} only if server.ops_host is a loopback address.")
