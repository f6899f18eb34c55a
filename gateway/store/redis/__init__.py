"""Store on a Redis or Valkey server."""
