"""Authentication of the operations port by keys of its own (`server.ops_keys`)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, KeyRing
from gateway.clock import Clock
from gateway.http.forwarded import client_address
from gateway.http.pipeline import presented_key
from gateway.http.request import Request
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem

_OPEN_ROUTES = frozenset({"healthz", "readyz"})
"""Routes that need no key: probes have none."""
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward-operations"'),)


@dataclass(slots=True)
class OpsAuthenticator:
    """Requires an operations key for every route but liveness and readiness; for none if no key is configured."""

    keys: KeyRing
    failed_auth_limiter: FailedAuthLimiter
    clock: Clock
    log: Logger

    def reconfigure(self, keys: KeyRing) -> None:
        """Use these keys from the next request on."""
        self.keys = keys

    def authenticate(self, request: Request) -> None:
        """Raise Problem (unauthorized, too_many_failures) for a request without a key to a route that needs one."""
        if self.keys and request.route.name not in _OPEN_ROUTES:
            found = self.keys.find(presented_key(request), self.clock.now())
            if isinstance(found, KeyRefusal):
                raise self._reject(found, request)

    def _reject(self, reason: KeyRefusal, request: Request) -> Problem:
        address = client_address(request, ())
        self.log.info("ops_key_refused", request_id=request.request_id, why=reason.value, peer=address)
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return Problem("too_many_failures", "Too many bad keys came from this address.", retry_after=retry_after)
        return Problem("unauthorized", headers=_CHALLENGE)
