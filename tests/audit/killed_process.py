"""A process that is killed while it does what its audit record says: `python -m tests.audit.killed_process FILE`.

The handler of the request kills it before it changes anything, or with `after` once it has.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import structlog
from multidict import CIMultiDict
from structlog.testing import LogCapture

from gateway.audit.recorder import AuditRecorder
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.oidc.login import OidcLogin
from gateway.auth.ops_keys import OpsKeys
from gateway.auth.sessions import Sessions
from gateway.clock import SystemClock
from gateway.http.audit_trail import AuditTrail
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.http.request import CompleteRequest, Request, RequestHead, Route
from gateway.http.response import Response
from gateway.store.provider_override import ProviderOverride
from gateway.store.sqlite.store import SqliteStore


async def main(path: Path, *, after: bool) -> None:
    """Handle one request."""
    clock = SystemClock()
    log = structlog.wrap_logger(None, processors=[LogCapture()])
    store = SqliteStore(path, clock)
    await store.open()

    async def handle(_request: Request) -> Response:
        if after:
            await store.set_override(ProviderOverride("studio", "suspended", "", 1.0))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    authenticator = OpsAuthenticator(
        OpsKeys(), Sessions(store, clock), OidcLogin(None, store, clock), FailedAuthLimiter(clock), (), clock, log
    )
    trail = AuditTrail(authenticator, AuditRecorder(store.audit, clock, log, lambda _: None, "here/1"))
    route = Route("POST", "/providers/override/{id}", handle, "providers", action="providers.override")
    head = RequestHead("POST", ("/providers/override/studio", ""), CIMultiDict(), route, "studio")
    request = CompleteRequest(head, b"", asyncio.Transport())
    await trail(handle)(request)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), after=sys.argv[2:] == ["after"]))
