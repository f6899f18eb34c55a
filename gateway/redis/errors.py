"""Errors of the connection to a Redis or Valkey server."""

from __future__ import annotations


class RedisUnavailable(Exception):
    """The server did not answer in time, or refused the command. The command may or may not have been executed.

    The message is a fixed text of this package; it never quotes the server or a stored value.
    """


class RedisDataReplaced(RedisUnavailable):
    """The data on the server are not those that were opened: its generation was deleted or changed."""
