"""Tests of audit records: their chain, its verification, and their recording."""
