"""Rate limiter: limits of clients, workflows and providers."""
