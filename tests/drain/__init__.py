"""Graceful shutdown tests: no failed request behind a load balancer, and no lost run."""
