"""Issuer of tokens on loopback: discovery document, keys, and tokens that it signs, or that others forge."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    import ssl

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encode(data: bytes | str | Mapping[str, Any]) -> str:
    """Encode bytes, a text or a JSON object as a segment of a token."""
    if isinstance(data, Mapping):
        data = json.dumps(data)
    return urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def decode(segment: str) -> bytes:
    """Decode a segment of a token."""
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """Return a key, the same for the same arguments: it takes a while to make one."""
    assert number >= 0
    return rsa.generate_private_key(65537, bits)


def public_jwk(key: PrivateKey, key_id: str, **more: Any) -> dict[str, Any]:
    """Public part of a key as an entry of a key set."""
    return {**_to_jwk(key.public_key()), "kid": key_id, "use": "sig", **more}


def private_jwk(key: PrivateKey, key_id: str) -> dict[str, Any]:
    """Return the whole key as an entry of a key set, as no issuer should publish it."""
    return {**_to_jwk(key), "kid": key_id, "use": "sig"}


def _to_jwk(key: Any) -> dict[str, Any]:
    kind: Any = RSAAlgorithm if hasattr(key, "key_size") and "RSA" in type(key).__name__ else None
    if kind is None:
        kind = OKPAlgorithm if "25519" in type(key).__name__ else ECAlgorithm
    members: dict[str, Any] = kind.to_jwk(key, as_dict=True)
    members.pop("key_ops", None)
    return members


def sign(key: PrivateKey, header: Mapping[str, Any], claims: Mapping[str, Any] | str) -> str:
    """Return a token signed by `key` with the algorithm of its header; every member of it is as given."""
    content = f"{encode(header)}.{encode(claims)}"
    return f"{content}.{encode(signature_of(key, str(header['alg']), content))}"


def signature_of(key: PrivateKey, algorithm: str, content: str) -> bytes:
    """Return the signature of a header and claims."""
    return jwt.get_algorithm_by_name(algorithm).sign(content.encode(), key)


@dataclass
class TokenIssuer:
    """A running issuer. What it answers may be changed: `documents` by path replace its own, `status` for all."""

    tls: ssl.SSLContext | None = None
    keys: dict[str, PrivateKey] = field(default_factory=lambda: {"key-1": rsa_key()})
    key_set: list[Any] | None = None
    documents: dict[str, bytes] = field(default_factory=dict)
    more_discovery: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    requests: list[tuple[str, str]] = field(default_factory=list)
    path: str = ""
    hold: asyncio.Event | None = None
    handlers: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    _runner: web.ServerRunner | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the issuer, as its tokens have it."""
        return self.origin + self.path

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def listen(self) -> None:
        """Open the port, the same one again after `stop_listening`."""
        assert self._runner is not None
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop_listening(self) -> None:
        """Refuse connections."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()

    def count(self, path: str) -> int:
        """Return the number of requests for a path."""
        return sum(found == path for found, _ in self.requests)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return claims of a valid token for the audience `runward`; None removes one. Times are seconds since 1970."""
        now = 1_795_262_400  # 2026-11-21 12:00 UTC, at which the clocks of tests begin
        own = {"iss": self.url, "aud": "runward", "sub": "app", "iat": now, "nbf": now, "exp": now + 3600}
        return {name: value for name, value in {**own, **changes}.items() if value is not None}

    def token(
        self, key_id: str = "key-1", algorithm: str = "RS256", *, header: Mapping[str, Any] | None = None, **claims: Any
    ) -> str:
        """Return a token that is valid unless the changes make it invalid."""
        return sign(
            self.keys[key_id],
            {"alg": algorithm, "kid": key_id, "typ": "JWT", **(header or {})},
            self.claims(**claims),
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Authorization", "")))
        if self.hold is not None:
            await self.hold.wait()
        if request.path in self.handlers:
            response: web.StreamResponse = await self.handlers[request.path](request)
            return response
        body = self.documents.get(request.path) or self._document(request.path.removeprefix(self.path))
        headers = {"Location": f"{self.origin}/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(
            status=404 if body is None else self.status,
            body=body or b"",
            content_type="application/json",
            headers=headers,
        )

    def _document(self, path: str) -> bytes | None:
        if path == "/.well-known/openid-configuration":
            discovery = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.more_discovery}
            return json.dumps(discovery).encode()
        if path == "/keys":
            own = [public_jwk(key, key_id) for key_id, key in self.keys.items()]
            return json.dumps({"keys": own if self.key_set is None else self.key_set}).encode()
        return None
