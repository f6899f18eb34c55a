"""Application: composition root, lifecycle, hot reload."""
