"""Audit of the operations port: every request that changes something is recorded before it is handled, and at its end.

The record of the beginning is in the store before the handler runs, so what was done is never without a record. If the
process ends in between, that record has no second one, and what became of the act is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from gateway.audit.entry import NO_NAME, AuditEntry, Means
from gateway.audit.recorder import AuditRecorder
from gateway.auth.ops_keys import OpsCaller
from gateway.errors import GatewayError
from gateway.http.forwarded import client_address
from gateway.http.ops_authentication import OPEN_ROUTES, OpsAuthenticator
from gateway.http.problem_mapping import problem_from_error
from gateway.http.request import AnyResponse, Handler, Request, Route
from gateway.problems import Problem
from gateway.store.contract import StoreUnavailable

_READING_METHODS = frozenset({"GET", "HEAD"})


def require_actions(routes: Iterable[Route]) -> None:
    """Raise ValueError if a route may change something and has no action: it would not be recorded."""
    missing = [
        f"{each.method} {each.path}" for each in routes if each.method not in _READING_METHODS and not each.action
    ]
    if missing:
        raise ValueError(f"routes that change something need an action for the audit: {', '.join(missing)}")


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """Middleware within the pipeline: authenticates each request, and records those of routes with an action.

    Attempts that `authenticator` refuses are recorded too, within a bound; so is what needs no key, such as a log-in.
    """

    authenticator: OpsAuthenticator
    recorder: AuditRecorder

    def __call__(self, inner: Handler) -> Handler:
        """Return the handler with the authentication and the records around `inner`."""

        async def handle(request: Request) -> AnyResponse:
            if not request.route.action:
                await self.authenticator.authenticate(request)
                return await inner(request)
            act = self.recorder.new_act()
            try:
                await self.authenticator.authenticate(request)
            except Problem as problem:
                refused = self._entry(act, request)
                self.recorder.record_refusal(replace(refused, result="refused", code=problem.code))
                raise
            if request.route.name in OPEN_ROUTES:
                return await self._record_end(act, request, inner)
            begun = self._entry(act, request)
            try:
                await self.recorder.record(begun)
            except asyncio.CancelledError:  # the handler does not run
                self.recorder.record_later(replace(begun, result="refused", code="client_closed_request"))
                raise
            return await self._record_end(act, request, inner)

        return handle

    async def _record_end(self, act: str, request: Request, inner: Handler) -> AnyResponse:
        try:
            response = await inner(request)
        except asyncio.CancelledError:
            self._record_failure(act, request, "client_closed_request")
            raise
        except Problem as problem:
            await self._record_problem(act, request, problem)
            raise
        except GatewayError as error:
            await self._record_problem(act, request, problem_from_error(error))
            raise
        except StoreUnavailable:
            self._record_failure(act, request, "store_unavailable")
            raise
        except Exception:
            self._record_failure(act, request, "internal")
            raise
        entry = replace(self._entry(act, request), result="succeeded")
        if request.ops_caller is None:  # nothing was changed: a log-out without a session
            self.recorder.record_refusal(replace(entry, result="refused", code="unauthorized"))
        else:
            await self.recorder.record(entry)
        return response

    async def _record_problem(self, act: str, request: Request, problem: Problem) -> None:
        entry = replace(self._entry(act, request), code=problem.code)
        if request.ops_caller is None:
            self.recorder.record_refusal(replace(entry, result="refused"))
        else:
            await self.recorder.record(replace(entry, result="failed" if problem.status >= 500 else "refused"))

    def _record_failure(self, act: str, request: Request, code: str) -> None:
        entry = replace(self._entry(act, request), result="failed", code=code)
        if request.ops_caller is None:
            self.recorder.record_refusal(entry)
        else:
            self.recorder.record_later(entry)

    def _entry(self, act: str, request: Request) -> AuditEntry:
        """Return the record of the beginning of a request."""
        caller = request.ops_caller
        actor, via = self._describe(caller)
        return AuditEntry(
            act,
            request.route.action,
            "begun",
            actor,
            via,
            "" if caller is None else caller.role.value,
            request.audit_target or unquote(request.path_param, errors="replace"),
            address=client_address(request, self.authenticator.trusted_proxies),
            request_id=request.request_id,
            details=request.audit_details,
        )

    def _describe(self, caller: OpsCaller | None) -> tuple[str, Means]:
        if caller is None:
            return "", "unknown"
        if not self.authenticator.requires_credentials:
            return "", "open"
        return caller.name or NO_NAME, "session" if caller.by_session else "key"
