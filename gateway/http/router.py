"""Router: finds the route of a request with one dictionary look-up in most cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.http.request import Request, Route
from gateway.http.response import Response
from gateway.problems import Problem


def with_double_slash(routes: Iterable[Route]) -> list[Route]:
    """The routes, each also with a doubled leading slash: clients whose base URL ends in a slash send it."""
    return [replace(route, path=slash + route.path) for route in routes for slash in ("", "/")]


async def _unknown_route(_request: Request) -> Response:
    raise Problem("unknown_route", "No route matches this path.")


UNKNOWN_ROUTE = Route("*", "*", _unknown_route, "unknown")


@dataclass(frozen=True, slots=True)
class Router:
    """Finds the route of a request: by path, by all but the last segment (`{id}`), or by prefix and suffix (`{path}`).

    Paths are compared as sent, without decoding or resolution of dot segments.
    """

    routes: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    patterns: Sequence[tuple[str, str, Mapping[str, Route]]] = ()
    fallback: Route = UNKNOWN_ROUTE

    @classmethod
    def from_routes(cls, routes: Iterable[Route], fallback: Route = UNKNOWN_ROUTE) -> Router:
        """Build the router. `fallback` serves paths without a route."""
        table: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = table.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":  # aiohttp leaves the body out
                methods["HEAD"] = route
        parts = [(*path.partition("{path}"), methods) for path, methods in table.items()]
        patterns = [(before, after, methods) for before, between, after, methods in parts if between]
        patterns.sort(key=lambda span: -len(span[0]) - len(span[1]))  # the longest match first
        return cls(table, patterns, fallback)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Route of a request, and what its `{id}` or `{path}` matched, or "".

        For an unknown path or method, a route that raises the problem.
        """
        parameter = ""
        methods = self.routes.get(path)
        if methods is None:
            parent, _, parameter = path.rpartition("/")
            methods = self.routes.get(parent + "/{id}")
        if methods is None:
            methods, parameter = self._match_pattern(method, path)
        if methods is None:
            return self.fallback, ""
        return methods.get(method) or self._method_not_allowed(methods), parameter

    def _match_pattern(self, method: str, path: str) -> tuple[Mapping[str, Route] | None, str]:
        other_methods: Mapping[str, Route] | None = None
        for before, after, methods in self.patterns:
            if len(path) > len(before) + len(after) and path.startswith(before) and path.endswith(after):
                if method in methods:
                    return methods, path[len(before) : len(path) - len(after)]
                other_methods = other_methods or methods
        return other_methods, ""

    @staticmethod
    def _method_not_allowed(methods: Mapping[str, Route]) -> Route:
        allow = ", ".join(sorted(methods))

        async def refuse(_request: Request) -> Response:
            raise Problem("method_not_allowed", f"Allowed methods: {allow}.", headers=(("Allow", allow),))

        route = next(iter(methods.values()))
        return Route("*", "*", refuse, route.name, render_problem=route.render_problem)
