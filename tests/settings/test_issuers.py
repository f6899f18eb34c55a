"""Issuers and the tokens of clients in the configuration."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gateway.app.tokens import token_config
from gateway.settings import SettingsError, load
from tests.support.process import inherited_environment

if TYPE_CHECKING:
    from pathlib import Path

GITHUB = "https://token.actions.githubusercontent.com"
OPEN = (
    "would let in workflows of every repository of GitHub: name an owner, as in repository: acme/shop "
    "or sub: repo:acme/shop:*"
)
BEGINNING = "must not begin with *: the beginning of a claim says whose it is"


def client(**match: Any) -> dict[str, Any]:
    return {"workflows": ["*"], "tokens": [{"issuer": "one", "audience": "runward", "match": match}]}


def config(*matches: dict[str, Any], url: str = "https://one.example", **issuer: Any) -> dict[str, Any]:
    clients = {f"c{number}": client(**match) for number, match in enumerate(matches)}
    return {"issuers": {"one": {"url": url, **issuer}}, "clients": clients}


def errors(tmp_path: Path, document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return place and complaint of each mistake."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(document))
    try:
        token_config(load(path, {}))
    except SettingsError as error:
        return [(place.partition(" ")[2] or place, complaint) for place, complaint in error.errors]
    return []


@pytest.mark.parametrize(
    ("match", "complaint"),
    [
        ({}, "must have at least one claim, such as sub: system:serviceaccount:shop:checkout"),
        ({"sub": "*"}, "sub: " + BEGINNING),
        ({"sub": "*:main"}, "sub: " + BEGINNING),
        ({"sub": ""}, "sub: must have 1 to 500 printable characters"),
        ({"sub": "a*b*c*d*e*f*"}, "sub: must have at most 5 *"),
        ({"sub": "x" * 501}, "sub: must have 1 to 500 printable characters"),
        ({"sub": 1.5}, "sub: must be a text, a whole number, true or false"),
        ({"sub": ["a"]}, "sub: must be a text, a whole number, true or false"),
        ({"sub": None}, "sub: must be a text, a whole number, true or false"),
        ({"iss": "x"}, "iss: is checked for every token: match another claim"),
        ({"/aud": "x"}, "/aud: is checked for every token: match another claim"),
        ({"/a~2": "x"}, "/a~2: must be a claim's name, or a JSON pointer such as /kubernetes.io/namespace"),
        ({"x" * 201: "x"}, "x" * 201 + ": a claim's name has 1 to 200 printable characters"),
        ({f"c{number}": "x" for number in range(21)}, "must have at most 20 claims"),
    ],
)
def test_a_match_that_is_invalid_is_refused(tmp_path: Path, match: dict[str, Any], complaint: str) -> None:
    assert [("clients.c0.tokens[0].match", complaint)] == errors(tmp_path, config(match))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sub": "a"}, {"sub": "a"}),
        ({"sub": "a:*"}, {"sub": "a:b"}),
        ({"sub": "a:*"}, {"sub": "a:b*c"}),
        ({"sub": "a"}, {"env": "production", "sub": "a"}),
        ({"/sub": "a"}, {"sub": "a"}),
        ({"admin": True}, {"sub": "a", "admin": True}),
    ],
)
def test_tokens_that_would_stand_for_two_clients_are_refused(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Whatever the order of the clients; within one client they are allowed."""
    complaint = "each of these tokens would stand for clients.{} too"
    assert ("clients.c1.tokens[0].match", complaint.format("c0")) in errors(tmp_path, config(first, second))
    assert ("clients.c0.tokens[0].match", complaint.format("c1")) in errors(tmp_path, config(second, first))
    alone = config(first)
    alone["clients"]["c0"]["tokens"].append({**alone["clients"]["c0"]["tokens"][0], "match": second})
    assert [] == errors(tmp_path, alone)
    other = config(first, second)
    other["clients"]["c1"]["tokens"][0]["audience"] = "another"
    assert [] == errors(tmp_path, other)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"sub": "a"}, {"sub": "b"}),
        ({"sub": "a*"}, {"env": "production"}),
        ({"sub": "a*c"}, {"sub": "a*d"}),
        ({"admin": True}, {"admin": "true"}),
        ({"id": 1}, {"id": True}),
    ],
)
def test_tokens_of_different_claims_are_allowed(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    """A token that matches both nevertheless is refused when it is presented."""
    assert [] == errors(tmp_path, config(first, second))


def test_many_tokens_are_compared_quickly(tmp_path: Path) -> None:
    """Each with a subject of its own."""
    document = config(*({"sub": f"system:serviceaccount:shop:{number}"} for number in range(2000)))
    assert [] == errors(tmp_path, document)


@pytest.mark.parametrize(
    "match",
    [
        {"repository": "acme/shop"},
        {"repository": "acme/*"},
        {"repository_owner": "acme", "ref": "refs/heads/main"},
        {"repository_owner_id": 4711},
        {"repository_id": "74"},
        {"sub": "repo:acme/shop:environment:production"},
        {"sub": "repo:acme/*:ref:refs/heads/main"},
        {"workflow_ref": "acme/shop/.github/workflows/run.yml@*"},
    ],
)
def test_tokens_of_one_owner_at_github_are_allowed(tmp_path: Path, match: dict[str, Any]) -> None:
    assert [] == errors(tmp_path, config(match, url=GITHUB))


@pytest.mark.parametrize(
    "match",
    [
        {"ref": "refs/heads/main"},
        {"sub": "repo:*"},
        {"sub": "repo:a*/shop:ref:refs/heads/main"},
        {"repository": "a*"},
        {"repository_owner": "acme*"},
        {"job_workflow_ref": "acme/shop/.github/workflows/run.yml@refs/heads/main"},
        {"/nested/repository": "acme/shop"},
    ],
)
def test_tokens_of_every_owner_at_github_are_refused(tmp_path: Path, match: dict[str, Any]) -> None:
    """A reusable workflow that is public may be called by every repository, so its name is not enough."""
    assert [("clients.c0.tokens[0].match", OPEN)] == errors(tmp_path, config(match, url=GITHUB))


@pytest.mark.parametrize(
    ("changes", "place", "complaint"),
    [
        ({"url": "http://one.example"}, "url", "must be https, unless allow_http: true"),
        ({"jwks_uri": "http://one.example/keys"}, "jwks_uri", "must be https, unless allow_http: true"),
        ({"url": "https://user:canary@one.example"}, "url", "must not contain a user or password"),
        ({"url": "https://one.example?a"}, "url", "must not have a query"),
        ({"url": "https://one.example#a"}, "url", "must not have a fragment"),
        ({"url": "one.example"}, "url", "must be a URL"),
        ({"url": "https://one.example/" + "a" * 2000}, "url", "must not have a fragment, and 2000 characters at most"),
        ({"ca_file": "missing.pem"}, "ca_file", "names no file"),
        ({"ca_file": "gateway.yaml"}, "ca_file", "holds no certificate"),
        ({"proxy_auth": "user:canary", "proxy": "http://p:1"}, "proxy_auth", "secrets are not accepted in the YAML"),
        ({"proxy": "http://p"}, "proxy", "must be a URL"),
        ({"keys_for": "0s"}, "keys_for", "must be"),
    ],
)
def test_an_issuer_that_is_invalid_is_refused(
    tmp_path: Path, changes: dict[str, Any], place: str, complaint: str
) -> None:
    document = config({"sub": "a"})
    document["issuers"]["one"] |= changes
    [(found, text)] = errors(tmp_path, document)
    assert (f"issuers.one.{place}", True) == (found, text.startswith(complaint)), text
    assert "canary" not in text


def test_an_issuer_keeps_its_url_as_it_is(tmp_path: Path) -> None:
    """A slash at its end is a part of it."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config({"sub": "a"}, url="https://one.example/")))
    assert "https://one.example/" == load(path, {}).issuers["one"].url


def test_names_must_fit(tmp_path: Path) -> None:
    document = config({"sub": "a"})
    document["issuers"]["two"] = {"url": "https://one.example"}
    document["clients"]["c0"]["tokens"][0]["issuer"] = "onee"
    assert [
        ("issuers.two.url", "issuers.one has this url already"),
        ("clients.c0.tokens[0].issuer", "no such issuer (did you mean one?)"),
    ] == errors(tmp_path, document)


def test_an_issuer_without_tokens_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({**config({"sub": "a"}), "clients": {}}))
    assert "issuers.one: signs no tokens of a client" in load(path, {}).warnings()
    path.write_text(yaml.safe_dump(config({"sub": "a"})))
    assert [] == [text for text in load(path, {}).warnings() if text.startswith("clients.c0: ")]


@pytest.mark.process
def test_without_the_library_issuers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config({"sub": "a"})))
    code = """
import sys
sys.modules["jwt"] = None
from pathlib import Path
from gateway.app.tokens import token_config
from gateway.settings import Settings, load
token_config(Settings())
try:
    token_config(load(Path(sys.argv[1])))
except Exception as refused:
    print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gateway.yaml")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=inherited_environment(),
    )
    assert "issuers: needs the PyJWT library: install runward[oidc]" == done.stdout.strip()


def login(**changes: Any) -> dict[str, Any]:
    own = {
        "issuer": "one",
        "client_id": "console",
        "url": "https://ops.example.com",
        "roles": {"claim": "groups", "operator": ["platform"]},
    }
    return {"issuers": {"one": {"url": "https://one.example"}}, "console": {"login": own | changes}}


def test_a_log_in_is_valid(tmp_path: Path) -> None:
    assert [] == errors(tmp_path, login())
    path = tmp_path / "gateway.yaml"
    assert [] == [text for text in load(path, {}).warnings() if text.startswith("issuers")]


@pytest.mark.parametrize(
    ("changes", "place", "complaint"),
    [
        ({"issuer": "onee"}, "issuer", "no such issuer (did you mean one?)"),
        ({"url": "http://ops.example.com"}, "url", "must be https: the session could be read on the network"),
        ({"url": "https://ops.example.com/base"}, "url", "must not have a path"),
        ({"url": "https://ops.example.com?x"}, "url", "must not have a query or fragment"),
        ({"scopes": ["profile"]}, "scopes", "must have openid"),
        ({"session": "13h"}, "session", "must be at most 12h"),
        ({"roles": {"claim": "groups"}}, "roles.operator", "or viewer must have a value"),
        ({"roles": {"claim": "groups", "viewer": ["*"]}}, "roles.viewer[0]", BEGINNING),
        ({"roles": {"claim": "iss", "viewer": ["a"]}}, "roles.claim", "is checked for every token"),
        ({"client_secret": "canary"}, "client_secret", "secrets are not accepted in the YAML"),
    ],
)
def test_a_log_in_that_is_invalid_is_refused(
    tmp_path: Path, changes: dict[str, Any], place: str, complaint: str
) -> None:
    [(found, text)] = errors(tmp_path, login(**changes))
    assert (f"console.login.{place}", True) == (found, text.startswith(complaint)), text
    assert "canary" not in text


def test_id_tokens_of_operators_are_no_tokens_of_clients(tmp_path: Path) -> None:
    document = login() | {"clients": {"c0": client(sub="a")}}
    document["clients"]["c0"]["tokens"][0]["audience"] = "console"
    assert [("clients.c0.tokens[0].audience", "is that of the console's id tokens")] == errors(tmp_path, document)
