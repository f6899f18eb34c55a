"""OpenAPI document, error reference and documentation page."""
