"""Redis client: connection pool, scripts, script pipeline."""
