"""Fault injection at the fake upstream, and the gateway's reactions."""
