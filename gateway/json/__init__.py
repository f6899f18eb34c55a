"""JSON: strict for requests, lenient for provider responses."""
