"""Admin API for stored keys of clients: create, list, rotate, revoke, expire, and try a key.

The text of a key is in the response that creates it, and nowhere else: the store has its hash.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.api.admin.key_documents import format_time, key_document
from gateway.api.admin.key_requests import CheckKeyRequest, CreateKeyRequest, ExpireKeyRequest, RotateKeyRequest
from gateway.api.admin.protected_port import require_protected_port
from gateway.auth.keys import KeyRefusal, KeyRing, PresentedKey, key_digest, new_key
from gateway.auth.scope import is_within
from gateway.auth.stored_keys.directory import key_state
from gateway.auth.stored_keys.follower import KEYS_CHANGED
from gateway.clock import Clock
from gateway.http.body import ModelT, parse_json_body, read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import FieldError, Problem, invalid_body, invalid_parameter
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings import Settings
from gateway.settings.types.fields import NAME_PATTERN
from gateway.store.client_key import KeepsClientKeys, StoredKey
from gateway.store.contract import StoreUnavailable

ID_PATTERN = "^key_[0-9a-f]{32}$"
CURSOR_PATTERN = "^[1-9][0-9]{0,17}$"
_CHANGES = "keys can be created, rotated and prolonged"
MAX_KEYS = 100_000
"""Most stored keys, ended ones included."""
PAGE_SIZE, MAX_PAGE_SIZE = 50, 100

_MAX_BODY = 32_768
_BODY_TIMEOUT = 10.0  # seconds


class KeyStore(KeepsClientKeys, Protocol):
    """The part of `Store` that these handlers use. Every method may raise StoreUnavailable."""

    async def notify(self, name: str) -> None:
        """See `Store.notify`."""


@dataclass(frozen=True, slots=True)
class KeyAdminHandlers:
    """Handlers for the operations port. A change is in force at every replica on the store within two seconds.

    `settings`: those in use. `apply`: reads the changes where they are applied in this process; else that takes a
    second. StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: KeyStore
    settings: Callable[[], Settings]
    clock: Clock
    log: Logger
    apply: Callable[[], Awaitable[None]] | None = None

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/api/keys", self.list_keys, "api_keys"),
            Route("POST", "/api/keys", self.create, "api_keys", action="keys.create"),
            Route("POST", "/api/keys/check", self.check, "api_keys", action="keys.check"),
            Route("GET", "/api/keys/{id}", self.show, "api_keys"),
            Route("POST", "/api/keys/{path}/rotate", self.rotate, "api_keys", action="keys.rotate"),
            Route("POST", "/api/keys/{path}/revoke", self.revoke, "api_keys", action="keys.revoke"),
            Route("POST", "/api/keys/{path}/expire", self.expire, "api_keys", action="keys.expire"),
        ]

    async def list_keys(self, request: Request) -> Response:
        """Handle `GET /api/keys?client=…&limit=…&before=…`: a page, newest first; `next` is the following `before`."""
        client, limit, before = _parse_query(request.query)
        keys = await self.store.client_keys.list(client=client, before=before, limit=limit)
        following = str(keys[-1].number) if len(keys) == limit else None
        return _response(200, {"keys": [self._document(key) for key in keys], "next": following})

    async def show(self, request: Request) -> Response:
        """Handle `GET /api/keys/{id}`."""
        return _response(200, self._document(await self._find(request.path_param)))

    async def create(self, request: Request) -> Response:
        """Handle `POST /api/keys`: 201 with the key; its text is shown this once."""
        wanted = await _read(CreateKeyRequest, request, 'the body is an object with "client" and "name"')
        require_protected_port(self.settings(), _CHANGES)
        self._check(wanted)
        text = new_key(self.clock)
        terms = wanted.terms(actor_fields(request).get("actor"))
        expires_at = None if wanted.expires is None else wanted.expires.timestamp()
        key_id = "key_" + self.clock.token(16).hex()
        key = StoredKey(key_id, wanted.client, key_digest(text), terms.encode(), self._now, expires_at)
        _describe(request, key, name=wanted.name)
        if not await self.store.client_keys.add(key, most=MAX_KEYS):
            raise Problem("too_many_keys", f"There are {MAX_KEYS} stored keys, ended ones included.")
        await self._publish(key, "created", request)
        location = (("Location", f"/api/keys/{key_id}"),)
        return _response(201, {**self._document(key), "key": text}, location)

    async def rotate(self, request: Request) -> Response:
        """Handle `POST /api/keys/{id}/rotate`: another text; the previous one is valid for the grace."""
        wanted = await _read(RotateKeyRequest, request, 'the body is an object, with "grace"')
        require_protected_port(self.settings(), _CHANGES)
        text, now = new_key(self.clock), self._now
        while True:
            key = await self._find(request.path_param)
            _describe(request, key, grace=f"{wanted.grace:g}", keep=wanted.keep or "")
            if self._state(key) in {"revoked", "expired"}:
                raise Problem("key_ended", "A key that is revoked or has expired cannot be rotated.")
            grace_runs = key.previous_digest is not None and (key.previous_until_at or 0.0) > now
            if grace_runs and wanted.keep is None and wanted.grace:
                detail = 'Two texts of the key are valid. Send "keep" ("current" or "previous"), or wait for the grace.'
                raise Problem("rotation_in_progress", detail)
            kept = key.previous_digest if wanted.keep == "previous" and grace_runs else key.digest
            rotated = replace(
                key,
                digest=key_digest(text),
                previous_digest=kept if wanted.grace else None,
                previous_until_at=now + wanted.grace if wanted.grace else None,
                rotated_at=now,
            )
            if await self.store.client_keys.change(rotated):
                await self._publish(key, "rotated", request)
                return _response(200, {**self._document(rotated), "key": text})

    async def revoke(self, request: Request) -> Response:
        """Handle `POST /api/keys/{id}/revoke`: no request is accepted any more; runs in progress end. Is idempotent."""
        refuse_cross_site(request, body="the body may be empty")
        while (key := await self._find(request.path_param)).revoked_at is None:
            _describe(request, key)
            if await self.store.client_keys.change(replace(key, revoked_at=self._now)):
                await self._publish(key, "revoked", request)
        return _response(200, self._document(key))

    async def expire(self, request: Request) -> Response:
        """Handle `POST /api/keys/{id}/expire`: another expiry, or none. Is idempotent."""
        wanted = await _read(ExpireKeyRequest, request, 'the body is an object with "at"')
        at = None if wanted.at is None else wanted.at.timestamp()
        if at is not None and at <= self._now:
            raise invalid_body(FieldError("/at", "is in the past: revoke the key to end it now"))
        while (key := await self._find(request.path_param)).expires_at != at:
            _describe(request, key, at=format_time(at) or "never")
            if key.revoked_at is not None:
                raise Problem("key_ended", "A key that is revoked has no expiry.")
            if key.expires_at is not None and (at is None or at > key.expires_at):
                require_protected_port(self.settings(), _CHANGES)
            if await self.store.client_keys.change(replace(key, expires_at=at)):
                await self._publish(key, "expiry_set", request)
        return _response(200, self._document(key))

    async def check(self, request: Request) -> Response:
        """Handle `POST /api/keys/check`: whether a key is accepted, and why not. Its text is not kept."""
        wanted = await _read(CheckKeyRequest, request, 'the body is an object with "key"')
        clients = self.settings().clients
        configured = KeyRing({name: [(key.hash, key.expires) for key in each.keys] for name, each in clients.items()})
        presented = PresentedKey(wanted.key)
        found = configured.find(presented, self.clock.now)
        stored = await self.store.client_keys.find(presented.digest)
        request.audit_target = "" if stored is None else stored.id
        key = None if stored is None else self._document(stored)
        if found is not KeyRefusal.UNKNOWN:
            refusal = found.value if isinstance(found, KeyRefusal) else None
            source = None if found is KeyRefusal.MALFORMED else "configuration"
            client = None if isinstance(found, KeyRefusal) else found
            return _check_response(refusal, source, client, key)
        if stored is None or key is None:
            return _check_response(found.value, None, None, None)
        return _check_response(self._refusal(stored, wanted.key), "store", stored.client, key)

    def _refusal(self, key: StoredKey, text: str) -> str | None:
        state = self._state(key)
        if state != "active":
            return state
        if key_digest(text) != key.digest and self._now >= (key.previous_until_at or 0.0):
            return KeyRefusal.ROTATED.value
        return None if self._document(key)["supported"] else KeyRefusal.NOT_SUPPORTED.value

    def _check(self, wanted: CreateKeyRequest) -> None:
        errors = []
        client = self.settings().clients.get(wanted.client)
        if client is None:
            errors.append(FieldError("/client", "is not a client of the configuration"))
        else:
            errors += [
                FieldError(f"/workflows/{index}", "is not within the scope of the client: see its workflows")
                for index, pattern in enumerate(wanted.workflows or ())
                if not is_within(pattern, client.workflows)
            ]
        if wanted.expires is not None and wanted.expires.timestamp() <= self._now:
            errors.append(FieldError("/expires", "is in the past"))
        if errors:
            raise invalid_body(*errors[:20], count=len(errors))

    async def _publish(self, key: StoredKey, change: str, request: Request) -> None:
        actor = actor_fields(request)
        self.log.warning("key_changed", key_id=key.id, client=key.client, key_change=change, **actor)
        with suppress(StoreUnavailable):  # it is stored, and every replica reads the changes each second anyway
            await self.store.notify(KEYS_CHANGED)
            if self.apply is not None:
                await self.apply()

    async def _find(self, key_id: str) -> StoredKey:
        key = await self.store.client_keys.get(key_id) if re.fullmatch(ID_PATTERN, key_id) else None
        if key is None:
            raise Problem("key_not_found", "No stored key has this id; ended ones are kept for 30 days.")
        return key

    def _state(self, key: StoredKey) -> str:
        configured = key.client in self.settings().clients
        return key_state(key.revoked_at, key.expires_at, self._now, configured=configured)

    def _document(self, key: StoredKey) -> dict[str, object]:
        return key_document(key, self._now, self.settings().clients)

    @property
    def _now(self) -> float:
        return self.clock.now().timestamp()


async def _read(model: type[ModelT], request: Request, body: str) -> ModelT:
    refuse_cross_site(request, body=body)
    return parse_json_body(model, await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT))


def _describe(request: Request, key: StoredKey, **details: str) -> None:
    """Say in the audit record which key an act is about."""
    request.audit_target, request.audit_details = key.id, {"client": key.client, **details}


def _parse_query(query: Mapping[str, str]) -> tuple[str | None, int, int | None]:
    for name in query:
        if name not in {"client", "limit", "before"}:
            raise invalid_parameter(name[:100], "is not a parameter of this list")
    client, limit, before = query.get("client"), query.get("limit", str(PAGE_SIZE)), query.get("before")
    if client is not None and not re.fullmatch(NAME_PATTERN, client):
        raise invalid_parameter("client", "is not the name of a client")
    if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE_SIZE:
        raise invalid_parameter("limit", f"must be a whole number from 1 to {MAX_PAGE_SIZE}")
    if before is not None and not re.fullmatch(CURSOR_PATTERN, before):
        raise invalid_parameter("before", "must be `next` of an earlier response")
    return client, int(limit), None if before is None else int(before)


def _check_response(
    refusal: str | None, source: str | None, client: str | None, key: dict[str, object] | None
) -> Response:
    accepted = refusal is None
    return _response(200, {"accepted": accepted, "why": refusal, "source": source, "client": client, "stored": key})


def _response(status: int, document: Mapping[str, object], headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return make_response(status, strict_json.write(document), JSON_CONTENT_TYPE, headers)
