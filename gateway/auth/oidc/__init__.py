"""Signed tokens (JWT) of configured issuers: verification, and the clients that they stand for."""
