"""OpenAPI document of the operations port: a table of operations for each module of handlers.

A new operation: its route in `app.routes.ops_routes` and in `SupervisorAdmin.routes`, and an `Operation` in the group
of its module. A new module: its `GROUP` in `document.GROUPS`. `tests/api/admin` holds routes and operations equal;
requests to it belong into `converse` there, which compares the responses with the document.
"""
