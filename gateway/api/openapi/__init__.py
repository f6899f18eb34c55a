"""Schemas, responses and examples of the OpenAPI document."""
