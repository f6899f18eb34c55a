"""The settings in use as a list: every value with its source, and no secret."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from gateway.settings import Settings, load
from gateway.settings.effective import effective_values
from gateway.settings.sources.secret_locations import SECRET_PATHS
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.process import ROOT

if TYPE_CHECKING:
    from gateway.settings.effective import EffectiveValue

SECRET = "a-secret-that-no-list-has-7391"


def by_path(settings: Settings) -> dict[str, EffectiveValue]:
    """Return the values by their paths, each of which occurs once."""
    values = list(effective_values(settings))
    found = {value.path: value for value in values}
    assert len(values) == len(found)
    return found


def test_values_have_their_source() -> None:
    values = by_path(load(ROOT / "config" / "gateway.yaml", PROVIDER_SECRETS))
    assert (8080, True) == (values["server.port"].value, values["server.port"].configured)
    assert (8190, False) == (values["server.max_header"].value, values["server.max_header"].configured)
    assert "20/s" == values["clients.checkout.limits.rate"].value
    assert ["triage-studio"] == values["workflows.support-triage.fallback"].value
    assert "2027-12-31T00:00:00.000Z" == values["clients.checkout.keys[0].expires"].value
    assert json.dumps([asdict(value) for value in values.values()])


def test_no_secret_and_nothing_that_may_be_one_is_told() -> None:
    """Every setting of `SECRET_PATHS`, hashes of keys, options of adapters, and the path of a webhook."""
    key = {"hash": "sha256:" + "7391" * 16}
    tree: dict[str, Any] = {
        "server": {"ops_keys": [key]},
        "clients": {"one": {"keys": [key]}},
        "providers": {"p": {"adapter": "prompt_studio", "options": {"token": SECRET}}},
        "attention": {"webhook": f"https://hooks.example/{SECRET}?{SECRET}"},
    }
    for path in SECRET_PATHS:
        add(tree, path)
    settings = Settings.model_construct(**{name: build(name, section) for name, section in tree.items()})
    told = json.dumps([asdict(value) for value in effective_values(settings)])
    assert SECRET not in told
    assert "7391" not in told
    assert "https://hooks.example/" in told
    hidden = [value.path for value in effective_values(settings) if value.hidden]
    assert len(SECRET_PATHS) + 3 == len(hidden)


def add(tree: dict[str, Any], path: tuple[str, ...]) -> None:
    """Add a secret at a path, whose wildcards are a name or the place in a list."""
    *parents, last = path
    place = tree
    for name in parents:
        place = place.setdefault("p" if name == "*" else name, {})
    if last == "*":
        place["0"] = SecretStr(SECRET)
    else:
        place[last] = SecretStr(SECRET)


def build(name: str, section: dict[str, Any]) -> Any:
    """Return a section whose values are as they are: without validation."""
    if name in {"providers", "clients", "issuers"}:
        return section
    annotation = Settings.model_fields[name].annotation
    assert annotation is not None
    return annotation.model_construct(**section)
