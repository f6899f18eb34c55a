"""Tokens that must be refused: each is valid but for one thing, or made as an attacker would."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.token_issuer import (
    TokenIssuer,
    decode,
    encode,
    private_jwk,
    public_jwk,
    rsa_key,
    sign,
    signature_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NOW = 1_795_262_400


def forged_tokens(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    """Return the reason that the log has and the token, by name. `issuer` has the keys that `issuer_keys` returns."""
    return {
        **_unsigned(issuer),
        **_confused(issuer),
        **_wrong_header(issuer),
        **_wrong_claims(issuer),
        **_malformed(issuer),
    }


def _unsigned(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    header, claims = {"kid": "key-1", "typ": "JWT"}, issuer.claims()
    key = rsa_key()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    modulus = decode(public_jwk(key, "")["n"])
    symmetric = {
        f"HS256 with the public key as {name}": ("token_algorithm", _hs256({**header, "alg": "HS256"}, claims, secret))
        for name, secret in {"PEM": public, "DER": der, "its modulus": modulus, "nothing": b""}.items()
    }
    return {
        **symmetric,
        **{
            f"alg {name}": ("token_algorithm", f"{encode({**header, 'alg': name})}.{encode(claims)}.{encode(b'x')}")
            for name in ("none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "HS384", "RSA-OAEP", "dir", "ES256K")
        },
        "alg none without a signature": (
            "token_malformed",
            f"{encode({**header, 'alg': 'none'})}.{encode(claims)}.",
        ),
        "no alg": ("token_algorithm", f"{encode(header)}.{encode(claims)}.{encode(b'x')}"),
        "alg is a list": (
            "token_algorithm",
            f"{encode({**header, 'alg': ['RS256']})}.{encode(claims)}.{encode(b'x')}",
        ),
        "signature of another token": ("token_signature", _with_claims(issuer.token(), issuer.claims(sub="other"))),
        "signature cut off": ("token_signature", _with_signature(issuer.token(), lambda s: s[:-1])),
        "signature with a byte more": ("token_signature", _with_signature(issuer.token(), lambda s: s + b"\0")),
        "signature of one byte": ("token_signature", _with_signature(issuer.token(), lambda _: b"\0")),
        "signature of zeros": ("token_signature", _with_signature(issuer.token(), lambda s: bytes(len(s)))),
        "another issuer's key": ("token_signature", _signed(issuer, rsa_key(2048, 1), {"kid": "key-1"})),
        "ES256, r and s are zero": (
            "token_signature",
            _with_signature(issuer.token("ec", "ES256"), lambda s: bytes(len(s))),
        ),
        "ES256, s is zero": (
            "token_signature",
            _with_signature(issuer.token("ec", "ES256"), lambda s: s[:32] + bytes(32)),
        ),
        "ES256, r and s are the order": (
            "token_signature",
            _with_signature(issuer.token("ec", "ES256"), lambda _: P256_ORDER.to_bytes(32, "big") * 2),
        ),
        "ES256, s beyond the order": (
            "token_signature",
            _with_signature(issuer.token("ec", "ES256"), _beyond_the_order),
        ),
        "ES256 in DER": ("token_signature", _with_signature(issuer.token("ec", "ES256"), _as_der)),
        "EdDSA, all zero": (
            "token_signature",
            _with_signature(issuer.token("ed", "EdDSA"), lambda s: bytes(len(s))),
        ),
    }


def _confused(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    attacker, claims = rsa_key(2048, 1), issuer.claims()
    curve = ec.generate_private_key(ec.SECP256R1())
    p384 = ec.generate_private_key(ec.SECP384R1())
    weak = rsa_key(1024)
    return {
        "RS256 for a key of another type": ("token_algorithm", _signed(issuer, attacker, {"kid": "ec"})),
        "ES256 for an RSA key": ("token_algorithm", _signed(issuer, curve, {"kid": "key-1"}, "ES256")),
        "ES384 for a P-256 key": ("token_algorithm", _signed(issuer, p384, {"kid": "ec"}, "ES384")),
        "PS256 for a key that is for RS256 only": (
            "token_algorithm",
            sign(rsa_key(2048, 2), {"alg": "PS256", "kid": "rs256-only"}, claims),
        ),
        "ES256 by a key of another curve": ("token_unknown_key", _signed(issuer, p384, {"kid": "p521"}, "ES384")),
        "EdDSA for an RSA key": ("token_algorithm", _relabelled(issuer.token("ed", "EdDSA"), "key-1")),
        "RSA key of 1024 bits": ("token_unknown_key", _signed(issuer, weak, {"kid": "weak"})),
        "key that the issuer published with its private part": (
            "token_unknown_key",
            _signed(issuer, rsa_key(2048, 3), {"kid": "leaked"}),
        ),
        "key for encryption": ("token_unknown_key", _signed(issuer, rsa_key(2048, 4), {"kid": "encryption"})),
        "symmetric key of the key set": (
            "token_algorithm",
            _hs256({"alg": "HS256", "kid": "symmetric"}, claims, b"secret" * 8),
        ),
        "key id that two keys have": ("token_unknown_key", _signed(issuer, rsa_key(2048, 5), {"kid": "twice"})),
    }


def _wrong_header(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    attacker, other = rsa_key(2048, 1), "https://attacker.example/keys"
    key_ids: list[Any] = [
        *("../../dev/null", "key-1' OR '1'='1", "key-1\0", " key-1", "KEY-1", "0", "*", "key-1\n"),
        "http://127.0.0.1/",
    ]
    return {
        "no kid": ("token_no_key_id", sign(rsa_key(), {"alg": "RS256"}, issuer.claims())),
        "empty kid": ("token_no_key_id", _signed(issuer, rsa_key(), {"kid": ""})),
        "kid is a number": ("token_no_key_id", _signed(issuer, rsa_key(), {"kid": 1})),
        "kid is a list": ("token_no_key_id", _signed(issuer, rsa_key(), {"kid": ["key-1"]})),
        "kid is an object": ("token_no_key_id", _signed(issuer, rsa_key(), {"kid": {"key-1": 1}})),
        "kid of 300 characters": ("token_no_key_id", _signed(issuer, rsa_key(), {"kid": "k" * 300})),
        **{f"kid {key_id!r}": ("token_unknown_key", _signed(issuer, rsa_key(), {"kid": key_id})) for key_id in key_ids},
        "jwk": ("token_signature", _signed(issuer, attacker, {"kid": "key-1", "jwk": public_jwk(attacker, "key-1")})),
        "jwk, of another kid": (
            "token_unknown_key",
            _signed(issuer, attacker, {"kid": "x", "jwk": public_jwk(attacker, "x")}),
        ),
        "jku": ("token_signature", _signed(issuer, attacker, {"kid": "key-1", "jku": other})),
        "x5u": ("token_signature", _signed(issuer, attacker, {"kid": "key-1", "x5u": other})),
        "x5c": ("token_signature", _signed(issuer, attacker, {"kid": "key-1", "x5c": ["MIIB"]})),
        "crit": ("token_critical", issuer.token(header={"crit": ["exp"], "exp": 1})),
        "crit is empty": ("token_critical", issuer.token(header={"crit": []})),
        "b64 false": ("token_critical", issuer.token(header={"b64": False, "crit": ["b64"]})),
        "b64 false without crit": ("token_critical", issuer.token(header={"b64": False})),
        "typ of a log-out token": ("token_type", issuer.token(header={"typ": "logout+jwt"})),
        "typ of a proof of possession": ("token_type", issuer.token(header={"typ": "dpop+jwt"})),
        "typ is a number": ("token_type", issuer.token(header={"typ": 1})),
        "nested": ("token_type", issuer.token(header={"cty": "JWT"})),
        "compressed": ("token_type", issuer.token(header={"zip": "DEF"})),
    }


def _wrong_claims(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    url = issuer.url
    return {
        "expired": ("token_expired", issuer.token(exp=NOW - 60)),
        "expired long ago": ("token_expired", issuer.token(exp=0)),
        "no exp": ("token_claims", issuer.token(exp=None)),
        "exp is a text": ("token_claims", issuer.token(exp=str(NOW + 60))),
        "exp is true": ("token_claims", issuer.token(exp=True)),
        "exp is huge": ("token_claims", issuer.token(exp=1e300)),
        "exp is negative": ("token_claims", issuer.token(exp=-1)),
        "exp is a list": ("token_claims", issuer.token(exp=[NOW + 60])),
        "not yet valid": ("token_not_yet_valid", issuer.token(nbf=NOW + 61)),
        "nbf is a text": ("token_claims", issuer.token(nbf="now")),
        "issued in the future": ("token_not_yet_valid", issuer.token(iat=NOW + 61)),
        "no audience": ("token_audience", issuer.token(aud=None)),
        "another audience": ("token_audience", issuer.token(aud="runward2")),
        "an audience in other case": ("token_audience", issuer.token(aud="Runward")),
        "audience is an object": ("token_audience", issuer.token(aud={"runward": 1})),
        "audience is an empty list": ("token_audience", issuer.token(aud=[])),
        "audiences with a number": ("token_audience", issuer.token(aud=["runward", 1], azp="runward")),
        "audiences without azp": ("token_authorized_party", issuer.token(aud=["runward", "other"])),
        "audiences with another azp": ("token_authorized_party", issuer.token(aud=["runward", "other"], azp="other")),
        "audiences with a list as azp": (
            "token_authorized_party",
            issuer.token(aud=["runward", "other"], azp=["runward"]),
        ),
        "the same audience twice": ("token_authorized_party", issuer.token(aud=["runward", "runward"])),
        "no issuer": ("token_issuer", issuer.token(iss=None)),
        "another issuer": ("token_issuer", issuer.token(iss="https://attacker.example")),
        "issuer with a slash at the end": ("token_issuer", issuer.token(iss=url + "/")),
        "issuer in other case": ("token_issuer", issuer.token(iss=url.upper())),
        "issuer with a path": ("token_issuer", issuer.token(iss=url + "/x")),
        "issuer with a query": ("token_issuer", issuer.token(iss=url + "?")),
        "issuer with a user": ("token_issuer", issuer.token(iss=url.replace("//", "//x@"))),
        "issuer is a list": ("token_issuer", issuer.token(iss=[url])),
        "bound to a key of its sender": ("token_bound", issuer.token(cnf={"jkt": "x"})),
        "no claim that a client matches": ("token_no_match", issuer.token(sub="stranger")),
        "sub with more text": ("token_no_match", issuer.token(sub="app2")),
        "sub with a line feed": ("token_no_match", issuer.token(sub="app\n")),
        "no sub": ("token_no_match", issuer.token(sub=None)),
        "sub is null in a list": ("token_no_match", issuer.token(sub=[None])),
        "two clients match": ("token_ambiguous", issuer.token(groups=["left", "right"], sub="x")),
    }


def _malformed(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    token = issuer.token()
    header, claims, signature = token.split(".")
    duplicate = json.dumps(issuer.claims(sub="stranger"))[:-1] + ', "sub": "app"}'
    escaped = json.dumps(issuer.claims(sub="stranger"))[:-1] + ', "su\\u0062": "app"}'
    own = {"alg": "RS256", "kid": "key-1"}
    key = rsa_key()
    twice = '{"alg":"none","kid":"key-1","alg":"RS256"}'
    return {
        "encrypted": ("token_malformed", f"{token}.{signature}.{signature}"),
        "two parts": ("token_malformed", f"{header}.{claims}"),
        "header alone": ("token_malformed", f"{header}."),
        "no claims": ("token_malformed", f"{header}..{signature}"),
        "no signature": ("token_malformed", f"{header}.{claims}."),
        "padded": ("token_malformed", f"{header}.{claims}.{signature}=="),
        "other bits at the end": ("token_malformed", f"{header}.{claims}.{_other_last_bits(signature)}"),
        "base64 instead of base64url": ("token_malformed", f"{header}.{claims}+.{signature}"),
        "a space within": ("token_malformed", f"{header}. {claims}.{signature}"),
        "longer than 16 kB": ("token_too_large", issuer.token(more="x" * 13_000)),
        "duplicate claim": ("token_malformed", sign(key, own, duplicate)),
        "duplicate claim, escaped": ("token_malformed", sign(key, own, escaped)),
        "duplicate header member": (
            "token_malformed",
            f"{encode(twice)}.{claims}.{encode(signature_of(key, 'RS256', f'{encode(twice)}.{claims}'))}",
        ),
        "claims are a list": ("token_malformed", sign(key, own, "[]")),
        "claims are a text": ("token_malformed", sign(key, own, '"app"')),
        "claims are no JSON": ("token_malformed", sign(key, own, "{'sub': 'app'}")),
        "claims with NaN": ("token_malformed", sign(key, own, '{"exp": NaN}')),
        "claims nested deeply": ("token_malformed", sign(key, own, '{"a":' * 500 + "1" + "}" * 500)),
        "claims with a BOM": ("token_malformed", sign(key, own, "\ufeff" + json.dumps(issuer.claims()))),
        "claims in UTF-16": ("token_malformed", _signed_bytes(key, own, json.dumps(issuer.claims()).encode("utf-16"))),
        "claims with a lone surrogate": ("token_malformed", sign(key, own, '{"sub": "\\ud800"}')),
        "header is a list": ("token_malformed", f"eyJd.{claims}.{signature}"),
    }


def issuer_keys() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the private keys of the issuer, and its key set, which has keys that must not be used."""
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    keys: dict[str, Any] = {
        "key-1": rsa_key(),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
    }
    usable = [public_jwk(key, key_id) for key_id, key in keys.items()]
    weak: rsa.RSAPrivateKey = rsa_key(1024)
    return keys, [
        *usable,
        public_jwk(rsa_key(2048, 2), "rs256-only", alg="RS256"),
        public_jwk(weak, "weak"),
        private_jwk(rsa_key(2048, 3), "leaked"),
        public_jwk(rsa_key(2048, 4), "encryption", use="enc"),
        {"kty": "oct", "kid": "symmetric", "k": encode(b"secret" * 8), "alg": "HS256"},
        public_jwk(rsa_key(2048, 5), "twice"),
        public_jwk(rsa_key(2048, 6), "twice"),
    ]


def _signed(issuer: TokenIssuer, key: Any, header: Mapping[str, Any], algorithm: str = "RS256") -> str:
    return sign(key, {"alg": algorithm, "typ": "JWT", **header}, issuer.claims())


def _signed_bytes(key: Any, header: Mapping[str, Any], claims: bytes) -> str:
    content = f"{encode(header)}.{encode(claims)}"
    return f"{content}.{encode(signature_of(key, 'RS256', content))}"


def _hs256(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    content = f"{encode(header)}.{encode(claims)}"
    return f"{content}.{encode(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def _with_claims(token: str, claims: Mapping[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{encode(claims)}.{signature}"


def _with_signature(token: str, change: Any) -> str:
    content, _, signature = token.rpartition(".")
    return f"{content}.{encode(change(decode(signature)))}"


def _relabelled(token: str, key_id: str) -> str:
    header, claims, signature = token.split(".")
    return f"{encode({**json.loads(decode(header)), 'kid': key_id})}.{claims}.{signature}"


def _other_last_bits(signature: str) -> str:
    """Return another text for the same bytes: the last character of 256 bytes has four bits that are not used."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return signature[:-1] + alphabet[alphabet.index(signature[-1]) + 1]


def _beyond_the_order(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "big") + P256_ORDER
    return signature[:32] + s.to_bytes(33, "big")


def _as_der(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415

    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
