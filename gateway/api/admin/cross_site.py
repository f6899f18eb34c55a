"""Protection of the operations port against requests that a web page makes a browser send."""

from __future__ import annotations

from gateway.http.request import Request
from gateway.problems import Problem


def refuse_cross_site(request: Request, *, body: str) -> None:
    """Raise Problem (unsupported_media_type) for a request that a page of another site may have caused.

    A browser sends this content type to another site only after a preflight request, which fails. `OpsAuthenticator`
    has checked `Origin` before. `body`: what the body has to be.
    """
    if not request.head.is_json:
        raise Problem("unsupported_media_type", f"Send Content-Type: application/json; {body}.")
