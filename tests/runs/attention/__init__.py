"""Tests of the attention list."""
