"""HTTP server: router, middlewares, bodies, responses, problem documents."""
