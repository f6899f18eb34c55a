"""Names in client certificates: subjects and SANs."""

from __future__ import annotations

import pytest

from gateway.auth.certificates import CertificateIndex
from gateway.certificate_names import certificate_names, normalize_certificate_name

CHECKOUT = {
    "subject": ((("countryName", "DE"),), (("organizationName", "Example, Inc."),), (("commonName", "checkout"),)),
    "subjectAltName": (
        ("DNS", "Checkout.internal"),
        ("URI", "spiffe://example/ns/shop"),
        ("IP Address", "10.0.0.7"),
        ("IP Address", "FE80:0:0:0:0:0:0:1"),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "checkout.internal",
        "CHECKOUT.INTERNAL",
        "spiffe://example/ns/shop",
        "10.0.0.7",
        "fe80::1",
        r"CN=checkout,O=Example\, Inc.,C=DE",
        r"C=DE, O=Example\, Inc., CN=checkout",
        r"commonName=checkout,O=Example\, Inc.,C=DE",
    ],
)
def test_a_certificate_has_the_names_of_its_subject_and_sans(name: str) -> None:
    assert normalize_certificate_name(name) in certificate_names(CHECKOUT)


@pytest.mark.parametrize(
    "name",
    ["CN=checkout", "CN=Checkout,O=Example\\, Inc.,C=DE", "other.internal", "spiffe://example/ns/Shop", "10.0.0.8"],
)
def test_a_certificate_has_no_other_names(name: str) -> None:
    """A part of a subject does not match; case matters except in host names."""
    assert normalize_certificate_name(name) not in certificate_names(CHECKOUT)


@pytest.mark.parametrize("name", ["", " ", "CN=", "CN=a,,O=b", "=a", "CN=a,b", "a\nb", "x" * 501])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        normalize_certificate_name(name)


def test_the_index_finds_the_client_of_a_certificate() -> None:
    index = CertificateIndex({"shop": ["checkout.internal", "10.0.0.7"], "other": ["CN=other"]})
    assert "shop" == index.find(CHECKOUT)
    assert index.find({"subject": ((("commonName", "stranger"),),)}) is None
    assert index.find(None) is None
    assert index.find({}) is None


def test_a_certificate_with_names_of_two_clients_names_neither() -> None:
    index = CertificateIndex({"shop": ["checkout.internal"], "other": ["10.0.0.7"]})
    assert index.find(CHECKOUT) is None
