"""The middleware that records requests: requests that are cancelled before, while or after they are handled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog
from multidict import CIMultiDict
from structlog.testing import LogCapture

from gateway.audit.recorder import AuditRecorder
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.oidc.login import OidcLogin
from gateway.auth.ops_keys import OpsKeys
from gateway.auth.sessions import Sessions
from gateway.errors import RunNotFound, StoreError
from gateway.http.audit_trail import AuditTrail
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.http.request import AnyResponse, CompleteRequest, Handler, Request, RequestHead, Route
from gateway.http.response import Response, make_response
from gateway.store.audit import AuditFilter
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from tests.support.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Harness:
    """A middleware on a memory store, around one handler."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        log = structlog.wrap_logger(None, processors=[LogCapture()])
        limiter = FailedAuthLimiter(self.clock)
        sessions = Sessions(self.store, self.clock)
        authenticator = OpsAuthenticator(
            OpsKeys(), sessions, OidcLogin(None, self.store, self.clock), limiter, (), self.clock, log
        )
        recorder = AuditRecorder(self.store.audit, self.clock, log, lambda _: None, "here/1")
        self.trail = AuditTrail(authenticator, recorder)

    async def handle(self, handler: Handler, method: str = "POST", action: str = "things.change") -> AnyResponse:
        """Send a request to `/things/{id}`."""
        route = Route(method, "/things/{id}", handler, "things", action=action)
        head = RequestHead(method, ("/things/one", ""), CIMultiDict(), route, "one")
        request = CompleteRequest(head, b"", asyncio.Transport())
        return await self.trail(handler)(request)

    async def results(self) -> list[tuple[object, object]]:
        """Return result and code of each record, oldest first."""
        await self.clock.run_ready_tasks()
        records = (await self.store.audit.list(AuditFilter({}, ascending=True))).records
        return [(each.members()["result"], each.members()["code"]) for each in records]


@pytest.fixture
async def harness() -> Harness:
    made = Harness()
    await made.store.open()
    return made


async def done(_request: Request) -> Response:
    return make_response(200, b"", "")


async def test_reading_is_not_recorded(harness: Harness) -> None:
    await harness.handle(done, "GET", action="")
    assert [] == await harness.results()


async def test_the_handler_runs_once_the_beginning_is_recorded(harness: Harness) -> None:
    seen: list[tuple[object, object]] = []

    async def look(request: Request) -> Response:
        seen.extend(await harness.results())
        return await done(request)

    await harness.handle(look)
    assert [("begun", "")] == seen
    assert [("begun", ""), ("succeeded", "")] == await harness.results()


async def test_an_error_of_the_domain_is_recorded_as_the_problem_that_it_becomes(harness: Harness) -> None:
    """It refuses the request, unless its status is that of a failure."""

    async def refuse(_request: Request) -> Response:
        raise RunNotFound("No run.")

    async def fail(_request: Request) -> Response:
        raise StoreError

    for handler, error in ((refuse, RunNotFound), (fail, StoreError)):
        with pytest.raises(error):
            await harness.handle(handler)
    assert [("refused", "not_found"), ("failed", "store_unavailable")] == [
        each for each in await harness.results() if each[0] != "begun"
    ]


async def test_a_request_that_is_cancelled_before_its_handler_has_changed_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so its record says."""
    hangs = asyncio.Event()
    append = harness.store.audit.append

    async def wait(*arguments: object) -> object:
        await hangs.wait()
        return await append(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.store.audit, "append", wait)
    task = asyncio.create_task(harness.handle(lambda _: pytest.fail("was handled")))
    await harness.clock.run_ready_tasks()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hangs.set()
    assert [("begun", ""), ("refused", "client_closed_request")] == await harness.results()


async def test_a_request_that_is_cancelled_while_it_is_handled_may_have_changed_something(harness: Harness) -> None:
    async def wait(_request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(harness.handle(wait))
    await harness.clock.run_ready_tasks()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [("begun", ""), ("failed", "client_closed_request")] == await harness.results()


@pytest.mark.parametrize(
    ("error", "code"), [(StoreUnavailable("away"), "store_unavailable"), (ValueError("a defect"), "internal")]
)
async def test_an_unexpected_end_may_have_changed_something(harness: Harness, error: Exception, code: str) -> None:
    async def fail(_request: Request) -> Response:
        raise error

    with pytest.raises(type(error)):
        await harness.handle(fail)
    assert [("begun", ""), ("failed", code)] == await harness.results()


async def test_what_the_handler_says_is_in_the_record_of_the_end(harness: Harness) -> None:
    def saying(target: str) -> Callable[[Request], object]:
        async def handle(request: Request) -> Response:
            request.audit_target, request.audit_details = target, {"size": "2"}
            return await done(request)

        return handle

    await harness.handle(saying("other"))  # type: ignore[arg-type]
    await harness.handle(saying("a\nb"))  # type: ignore[arg-type]
    records = (await harness.store.audit.list(AuditFilter({}, ascending=True))).records
    assert [("one", {}), ("other", {"size": "2"}), ("one", {}), ("(invalid)", {"size": "2"})] == [
        (each.members()["target"], each.members()["details"]) for each in records
    ]
