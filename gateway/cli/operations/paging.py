"""Lists of the operations port, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError

if TYPE_CHECKING:
    from gateway.cli.operations.client import OpsClient, Query
    from providers.contract import JsonValue


def iter_list(
    client: OpsClient, *segments: str, member: str, cursor: str, limit: int, more: str, query: Query | None = None
) -> Iterator[JsonValue]:
    """Yield at most `limit` elements of a list, and say on standard error if there are more.

    `member`: the member of a page that has the elements. `cursor`: the parameter that gets `next` of the page before.
    `more`: what prints the others.
    A page is requested when its first element is needed. Raises CliError, also for a page that follows itself.
    """
    after: JsonValue = ""
    while isinstance(after, str):
        page = client.get(*segments, query={**(query or {}), cursor: after or None})
        elements = page.get(member)
        for element in elements if isinstance(elements, list) else ():
            if limit <= 0:
                typer.echo(f"there are more: {more}", err=True)
                return
            limit -= 1
            yield element
        if page.get("next") == after:
            raise CliError("the gateway's list does not end")
        after = page.get("next")
