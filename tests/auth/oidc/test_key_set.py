"""Key sets of issuers: what is used of them, and what is refused."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import OKPAlgorithm

from gateway.auth.oidc.key_set import InvalidKeySet, parse_key_set
from tests.support.token_issuer import encode, private_jwk, public_jwk, rsa_key

RSA = public_jwk(rsa_key(), "a")
P256 = public_jwk(ec.generate_private_key(ec.SECP256R1()), "a")


def parse(*entries: Any) -> dict[str, frozenset[str]]:
    found = parse_key_set(json.dumps({"keys": entries}).encode())
    assert len(entries) == len(found.keys) + found.ignored
    return {key_id: key.algorithms for key_id, key in found.keys.items()}


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ({**RSA, "alg": "RS256"}, {"RS256"}),
        ({**RSA, "key_ops": ["verify"]}, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (
            {name: RSA[name] for name in ("kty", "kid", "n", "e")},
            {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
        ),
        ({**RSA, "x5c": ["MIIB"], "x5t": "x", "more": {"a": 1}, "alg": "PS512"}, {"PS512"}),
        (P256, {"ES256"}),
        (public_jwk(ec.generate_private_key(ec.SECP384R1()), "a"), {"ES384"}),
        (public_jwk(ec.generate_private_key(ec.SECP521R1()), "a", alg="ES512"), {"ES512"}),
        (public_jwk(ed25519.Ed25519PrivateKey.generate(), "a"), {"EdDSA"}),
        (public_jwk(ed25519.Ed25519PrivateKey.generate(), "a", alg="Ed25519"), {"EdDSA"}),
    ],
)
def test_a_key_verifies_the_algorithms_that_fit_it(entry: dict[str, Any], algorithms: set[str]) -> None:
    assert {"a": frozenset(algorithms)} == parse(entry)


def ed448_jwk() -> dict[str, Any]:
    found: dict[str, Any] = OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)
    return {**found, "kid": "a"}


@pytest.mark.parametrize(
    "entry",
    [
        *(None, 1, "a", [], {}),
        {**RSA, "kid": ""},
        {**RSA, "kid": 1},
        {**RSA, "kid": "x" * 257},
        {name: value for name, value in RSA.items() if name != "kid"},
        {**RSA, "kty": "rsa"},
        {**RSA, "kty": ["RSA"]},
        {**RSA, "use": "enc"},
        {**RSA, "key_ops": ["encrypt"]},
        {**RSA, "key_ops": "verify"},
        {**RSA, "alg": "HS256"},
        {**RSA, "alg": "none"},
        {**RSA, "alg": "ES256"},
        {**RSA, "alg": 1},
        {**RSA, "n": "!"},
        {**RSA, "n": 5},
        {**RSA, "n": RSA["n"] * 20},
        {**RSA, "e": encode(b"\x01")},
        {**RSA, "e": encode(b"\x02")},
        {**RSA, "e": encode(b"\x01" + b"\x00" * 7 + b"\x01")},
        {**RSA, "n": encode(b"")},
        {**RSA, "d": "AQAB"},
        {**RSA, "k": "AQAB"},
        {**RSA, "oth": []},
        private_jwk(rsa_key(), "a"),
        private_jwk(ec.generate_private_key(ec.SECP256R1()), "a"),
        public_jwk(rsa_key(1024), "a"),
        {**P256, "crv": "P-384"},
        {**P256, "crv": "secp256k1"},
        {**P256, "crv": ["P-256"]},
        {**P256, "crv": None},
        {**P256, "x": encode(bytes(32))},
        {**P256, "y": P256["x"]},
        {**P256, "alg": "ES384"},
        {**P256, "alg": "RS256"},
        {"kty": "oct", "kid": "a", "k": encode(b"secret" * 8)},
        {"kty": "OKP", "crv": "X25519", "x": encode(bytes(32)), "kid": "a"},
        ed448_jwk(),
    ],
    ids=itertools.count(),
)
def test_a_key_that_must_not_verify_is_ignored(entry: Any) -> None:
    """And hides no other."""
    assert {"b"} == set(parse(entry, {**RSA, "kid": "b"}))


def test_keys_with_the_same_id_are_ignored() -> None:
    assert {"b"} == set(parse(RSA, P256, {**RSA, "kid": "b"}))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[]", "has no list of keys"),
        (b"{}", "has no list of keys"),
        (b'{"keys": {}}', "has no list of keys"),
        (b'{"keys": [], "keys": []}', "is not valid JSON"),
        (b'{"keys": ' + b"[" * 300 + b"]" * 300 + b"}", "is not valid JSON"),
        (b'{"keys": [' + b"1," * 100 + b"1]}", "has more than 100 keys"),
        (b" " * 1_000_000 + b"{}", "has more than 1000000 bytes"),
    ],
)
def test_a_document_that_is_no_key_set_is_refused(document: bytes, complaint: str) -> None:
    with pytest.raises(InvalidKeySet, match=complaint):
        parse_key_set(document)


def test_a_key_of_two_thousand_bits_is_the_least() -> None:
    assert {"a"} == set(parse(public_jwk(rsa.generate_private_key(65537, 2048), "a")))
    assert set() == set(parse(public_jwk(rsa.generate_private_key(65537, 2047), "a")))
