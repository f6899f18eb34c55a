"""OpenAPI document of the operations port: a table of operations for each module of handlers."""
