"""Keys of an issuer (JWKS, RFC 7517), and signatures that they verify. The only module that imports PyJWT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.auth.oidc.token import ALGORITHMS, MAX_KEY_ID, Token
from gateway.json import strict_json
from providers.contract import JsonValue

MAX_DOCUMENT = 1_000_000
"""Largest key set, in bytes."""
MAX_KEYS = 100
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_MAX_RSA_EXPONENT = 2**32
_MAX_MEMBER = 2000  # characters of one number of a key

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS = frozenset(name for name in ALGORITHMS if name.startswith(("RS", "PS")))
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
_SIGNATURES = jwt.PyJWS(algorithms=sorted(ALGORITHMS), options={"enforce_minimum_key_length": True})


class InvalidKeySet(ValueError):
    """The document is no key set. The text says what is wrong, without its content."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key by its id, with the algorithms that it may verify. `members`: those that it was made of."""

    id: str
    algorithms: frozenset[str]
    members: tuple[str, ...]
    public: _PublicKey

    def verifies(self, token: Token) -> bool:
        """Return whether the signature of the token is this key's, by an algorithm that fits it."""
        if token.algorithm not in self.algorithms:
            return False
        try:
            _SIGNATURES.decode_complete(token.text, self.public, algorithms=[token.algorithm])
        except (jwt.PyJWTError, TypeError, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by id, and the number of keys of the document that cannot be used."""

    keys: Mapping[str, VerificationKey]
    ignored: int = 0


def parse_key_set(data: bytes) -> KeySet:
    """Parse a key set. Raises InvalidKeySet.

    Keys are ignored that are for encryption, symmetric, too short, of another curve, without an id or with one that
    another key has, and those that come with their private part.
    """
    if len(data) > MAX_DOCUMENT:
        raise InvalidKeySet(f"has more than {MAX_DOCUMENT} bytes")
    try:
        document = strict_json.read_unique(data)
    except strict_json.NotJson:
        raise InvalidKeySet("is not valid JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InvalidKeySet("has no list of keys")
    if len(entries) > MAX_KEYS:
        raise InvalidKeySet(f"has more than {MAX_KEYS} keys")
    found = [key for key in map(_parse_key, entries) if key is not None]
    ids = [key.id for key in found]
    keys = {key.id: key for key in found if ids.count(key.id) == 1}
    return KeySet(keys, len(entries) - len(keys))


def _parse_key(entry: JsonValue) -> VerificationKey | None:
    """Return the key of an entry; None if it is of no use for verification, or must not be used."""
    if not isinstance(entry, dict) or not entry.keys().isdisjoint(_PRIVATE_MEMBERS) or not _may_verify(entry):
        return None
    key_id, kind = entry.get("kid"), entry.get("kty")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID:
        return None
    if not isinstance(kind, str) or kind not in _MEMBERS:
        return None
    members = [entry.get(name) for name in _MEMBERS[kind]]
    texts = [value for value in members if isinstance(value, str) and len(value) <= _MAX_MEMBER]
    allowed = _algorithms_of(kind, entry)
    if len(texts) != len(members) or not allowed:
        return None
    public = _load(dict(zip(_MEMBERS[kind], texts, strict=True)) | {"kty": kind}, min(allowed))
    return None if public is None else VerificationKey(key_id, allowed, (kind, *sorted(allowed), *texts), public)


def _load(members: dict[str, str], algorithm: str) -> _PublicKey | None:
    """Return the public key of these members; None if it is invalid or too weak."""
    try:
        public = jwt.PyJWK(members, algorithm).key
    except (jwt.PyJWTError, TypeError, ValueError):
        return None
    usable = isinstance(public, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey) and _is_strong(public)
    return public if usable else None


def _may_verify(entry: Mapping[str, JsonValue]) -> bool:
    operations = entry.get("key_ops", ["verify"])
    return entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _algorithms_of(kind: str, entry: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the algorithms that fit the type and curve of a key, and its own `alg` if it has one."""
    curve = entry.get("crv")
    if kind == "RSA":
        fitting = _RSA_ALGORITHMS
    elif kind == "EC":
        fitting = frozenset({_CURVES[curve]}) if isinstance(curve, str) and curve in _CURVES else frozenset()
    else:
        fitting = frozenset({"EdDSA"}) if curve == "Ed25519" else frozenset()
    own = entry.get("alg")
    if own == "Ed25519":  # RFC 9864: the name of EdDSA with this curve
        own = "EdDSA"
    return fitting if own is None else fitting & {own} if isinstance(own, str) else frozenset()


def _is_strong(key: _PublicKey) -> bool:
    if not isinstance(key, RSAPublicKey):
        return True  # the curve is one of those allowed
    exponent = key.public_numbers().e
    return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and exponent % 2 == 1 and 3 <= exponent < _MAX_RSA_EXPONENT
