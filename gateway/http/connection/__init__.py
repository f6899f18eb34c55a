"""Connections of clients: for usual requests, and for all others."""
