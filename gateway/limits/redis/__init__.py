"""Counters of the limits on a Redis server, shared by all replicas."""
