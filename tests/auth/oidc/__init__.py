"""Signed tokens of issuers."""
