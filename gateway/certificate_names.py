"""Names in client certificates: a subject (RFC 4514) or a subject alternative name (SAN), normalized to be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, TypeAlias

PeerCertificate: TypeAlias = Mapping[str, Any]
"""A verified certificate as `ssl.SSLObject.getpeercert` returns it."""

# Attribute types of RFC 4514, section 3, and those that certificates commonly have beside them.
_ATTRIBUTES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SUBJECT_PART = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*((?:[^,\\]|\\.)+)")
_ESCAPED = re.compile(r"\\(.)")
MAX_LENGTH = 500


def normalize_certificate_name(text: str) -> str:
    """Normalize a subject ("CN=checkout,O=Example", RFC 4514) or a SAN (DNS name, URI, e-mail or IP address).

    Raises ValueError if the text is neither. A subject lists its attributes in either order: a name is compared without
    regard to it.
    """
    text = text.strip()
    if not text or len(text) > MAX_LENGTH or not text.isprintable():
        raise ValueError("must be a certificate's subject such as CN=app,O=Example, or a SAN such as app.example.com")
    if "=" in text and "://" not in text.partition("=")[0]:
        return _subject_name(_parse_subject(text))
    return _san_name(text)


def _parse_subject(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while True:
        match = _SUBJECT_PART.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ValueError("must be a subject such as CN=app,O=Example (RFC 4514)")
        yield match[1], _ESCAPED.sub(r"\1", match[2].strip())
        if match.end() == len(text):
            return
        position = match.end() + 1


def _subject_name(attributes: Iterable[tuple[str, str]]) -> str:
    parts = sorted((_ATTRIBUTES.get(name, name).upper(), value) for name, value in attributes)
    return "subject:" + ",".join(f"{name}={_escape(value)}" for name, value in parts)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _san_name(text: str) -> str:
    try:
        return f"san:{ip_address(text)}"
    except ValueError:
        # Host names are compared without regard to case (RFC 5280, 4.2.1.6); URIs and mailboxes are not.
        return "san:" + (text if "://" in text or "@" in text else text.lower())


def certificate_names(certificate: PeerCertificate) -> set[str]:
    """Names of a verified certificate, normalized: its subject and its SANs."""
    attributes = [attribute for rdn in certificate.get("subject", ()) for attribute in rdn]
    sans = (value for kind, value in certificate.get("subjectAltName", ()) if kind != "DirName")
    names = {_san_name(str(value).strip()) for value in sans}
    return names | {_subject_name(attributes)} if attributes else names
