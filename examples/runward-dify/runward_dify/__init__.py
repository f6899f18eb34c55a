"""Runward's adapter for Dify workflow apps."""
