"""Attention: what needs an operator now, from the store and the metrics, and its announcement by a webhook."""
