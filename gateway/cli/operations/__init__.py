"""Commands that use the operations port of a running gateway."""
