"""docs/tokens.md: its configurations let in the tokens that they are for; its reasons are complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gateway.app.tokens import login_config, token_config
from gateway.auth.oidc.refusals import TokenRefusal
from gateway.claim_patterns import match_all
from gateway.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = (Path(__file__).parent.parent.parent / "docs" / "tokens.md").read_text()
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)]
CONFIGURATIONS = [block for block in BLOCKS if "issuers" in block]

KUBERNETES = {
    "aud": ["runward"],
    "exp": 1795266000,
    "iat": 1795262400,
    "iss": "https://kubernetes.default.svc.cluster.local",
    "jti": "0f0c5d5c-6a3e-4f6a-9f0a-3c5d6f1a2b3c",
    "kubernetes.io": {
        "namespace": "shop",
        "node": {"name": "node-1", "uid": "e2a6"},
        "pod": {"name": "checkout-7d9f", "uid": "b1c4"},
        "serviceaccount": {"name": "checkout", "uid": "9a31"},
    },
    "nbf": 1795262400,
    "sub": "system:serviceaccount:shop:checkout",
}
"""Claims of a projected token of Kubernetes 1.32."""
GITHUB = {
    "iss": "https://token.actions.githubusercontent.com",
    "aud": "runward",
    "sub": "repo:acme/shop:ref:refs/heads/main",
    "ref": "refs/heads/main",
    "repository": "acme/shop",
    "repository_owner": "acme",
    "repository_owner_id": "4711",
    "repository_id": "815",
    "event_name": "schedule",
    "exp": 1795266000,
    "nbf": 1795262400,
    "iat": 1795262400,
}
"""Claims of a token of GitHub Actions; its ids are texts."""
CASES = [
    (0, KUBERNETES, {"sub": "system:serviceaccount:shop:other"}),
    (1, KUBERNETES, {"kubernetes.io": {"namespace": "other", "serviceaccount": {"name": "checkout"}}}),
    (2, GITHUB, {"ref": "refs/heads/feature"}),
    (2, GITHUB, {"repository_owner_id": "4712"}),
]


def test_every_configuration_has_a_case() -> None:
    assert {0, 1, 2} == {number for number, _, _ in CASES} == set(range(len(CONFIGURATIONS)))


@pytest.mark.parametrize(("number", "claims", "change"), CASES)
def test_the_configurations_let_in_whom_they_name(
    tmp_path: Path, number: int, claims: Mapping[str, Any], change: Mapping[str, Any]
) -> None:
    config = CONFIGURATIONS[number]
    for issuer in config["issuers"].values():
        for name in issuer.keys() & {"ca_file", "bearer_token_file"}:
            issuer[name] = str(tmp_path / Path(issuer[name]).name)
            Path(issuer[name]).touch()
        issuer.pop("ca_file", None)  # an empty file holds no certificate
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    built = token_config(load(path, {}))
    [(name, [rule])] = built.rules.items()
    assert claims["iss"] == built.issuers[name].url
    assert rule.audience in claims["aud"]
    assert match_all(rule.patterns, claims)
    assert not match_all(rule.patterns, {**claims, **change})


def test_the_pod_asks_for_the_audience() -> None:
    [pod] = [block for block in BLOCKS if block.get("kind") == "Pod"]
    [source] = pod["spec"]["volumes"][0]["projected"]["sources"]
    assert (
        CONFIGURATIONS[0]["clients"]["checkout"]["tokens"][0]["audience"] == source["serviceAccountToken"]["audience"]
    )


def test_every_reason_is_in_the_table() -> None:
    assert [reason.value for reason in TokenRefusal] == re.findall(r"^\| `(token_\w+)` \|", PAGE, re.MULTILINE)


def test_the_log_in_of_the_console_page_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "console.md").read_text()
    [config] = [
        block
        for text in re.findall(r"^```yaml\n(.*?)```", page, re.DOTALL | re.MULTILINE)
        if "login" in (block := yaml.safe_load(text) or {}).get("console", {})
    ]
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    login = login_config(load(path, {"RUNWARD_LOGIN_SECRET": "ls_4f9a8b7c6d5e"}))
    assert login is not None
    assert login.redirect_uri in page
