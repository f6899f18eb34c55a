"""Prefork supervisor: worker processes that share one port, and the process that starts, monitors and stops them."""
