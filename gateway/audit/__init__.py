"""Audit records: what they contain, their chain, its verification, and their recording."""
