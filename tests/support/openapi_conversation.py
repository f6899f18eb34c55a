"""Requests to a port whose responses are compared with the OpenAPI document that it serves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from gateway.json import strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue

JSON = {"Content-Type": "application/json"}


def node(value: JsonValue, *steps: str) -> dict[str, JsonValue]:
    """The object of the document at `steps`."""
    for step in steps:
        assert isinstance(value, dict), steps
        value = value[step]
    assert isinstance(value, dict), steps
    return value


class Conversation:
    """Requests to an operations port; each response is compared with the document that the port serves."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.spec: dict[str, JsonValue] = {}
        self.seen: set[tuple[str, str, int]] = set()

    async def open(self) -> Conversation:
        """Read the document."""
        async with self.session.get(f"{self.url}/openapi.json") as answer:
            assert 200 == answer.status
            self.spec = await answer.json()
        return self

    async def send(
        self, method: str, path: str, param: str = "", *, headers: Mapping[str, str] = {}, body: bytes | None = None
    ) -> JsonValue:
        """Send a request to the documented `path`, with `param` in place of its parameter; returns the body."""
        target = re.sub(r"\{[a-z_]+\}", param, path.partition("?")[0]) + "".join(path.partition("?")[1:])
        path = path.partition("?")[0]
        async with self.session.request(method, self.url + target, headers=headers, data=body) as answer:
            content, status, media = await answer.read(), answer.status, answer.content_type
            received = {name.lower() for name in answer.headers}
        self.seen.add((method, path, status))
        pointer = ("paths", path, method.lower(), "responses", str(status))
        documented = node(self.spec, *pointer)
        optional = {"ratelimit", "ratelimit-policy"}
        assert {name.lower() for name in node(documented, "headers")} - optional <= received
        if status == 204:
            assert (b"", {}) == (content, node(documented, "content"))
            return None
        assert media in node(documented, "content"), (path, status)
        if not media.endswith("json"):
            return content.decode()
        document = strict_json.read(content)
        location = "/".join(
            step.replace("~", "~0").replace("/", "~1") for step in (*pointer, "content", media, "schema")
        )
        validator = OAS31Validator({**self.spec, "$ref": f"#/{location}"}, format_checker=oas31_format_checker)
        assert [] == [error.message for error in validator.iter_errors(document)], (path, status)
        known = set(node(self.spec, "components", "schemas", "ProblemAnswer", "properties"))
        if isinstance(document, dict) and media == "application/problem+json":
            assert document.keys() <= known
        return document
