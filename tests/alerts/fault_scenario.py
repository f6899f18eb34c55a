"""Fault scenario: one provider account per fault, and the load that triggers the alerts.

Each account has a path of its own at the fake upstream (`/locked/v1/…`), which answers by that alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from gateway.problems import PROBLEMS
from providers.contract import JsonValue
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.provider_responses import (
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import RawBytes, reply
from tests.support.fake_upstream.upstream import FakeUpstream, Predicate

DONE = prompt_studio_reply({"completion": "because"})
NOT_TLS = RawBytes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

_STUDIO = "prompt_studio"
_LAYER = "promptlayer"


def in_rotation(*scripts: ResponseScript) -> ResponseScript:
    """Return a script that repeats these scripts in rotation, one per request."""
    rotation = itertools.cycle(scripts)

    async def script(wire: UpstreamConnection) -> None:
        await next(rotation)(wire)

    return script


ACCOUNT_ANSWERS: Mapping[str, ResponseScript] = {
    "locked": reply(401, {"message": "no"}),
    "broken": faults.rst_after_request,
    "flaky": in_rotation(faults.rst_after_request, DONE),
    "failing": reply(500, {"message": "the workflow failed"}),
    "throttling": in_rotation(reply(429, {}, {"Retry-After": "0"}), DONE, DONE),
    "narrow": faults.delayed(0.1, DONE),
    "slow": faults.delayed(6, promptlayer_done({"Answer": node("because")})),
}
"""What the accounts answer; to `slow` a start is answered at once, and a poll so."""

LOAD: Sequence[tuple[str, str, int]] = (
    ("one", "locked", 1),
    ("one", "misconfigured", 1),
    ("one", "broken", 2),
    ("one", "flaky", 3),
    ("one", "failing", 2),
    ("one", "throttling", 6),
    ("one", "handed_on", 2),
    ("one", "narrow", 6),
    ("one", "slow", 2),
    ("one", "clumsy", 1),
    ("one", "costly", 1),
    ("one", "thrifty", 1),
    ("two", "studio", 8),
)
"""Client, workflow and number of runs, twice a second."""


RECEIVER = "/receiver/hook"
"""Who wants no callbacks any more."""


def script_all(upstream: FakeUpstream) -> None:
    """Script the upstream for every account; the two providers of the default configuration succeed."""
    upstream.default = DONE
    for account, script in ACCOUNT_ANSWERS.items():
        upstream.route(_belongs_to(account), script)
    upstream.route(_belongs_to("receiver"), reply(410))
    upstream.always("POST", "/slow/workflows/slow/run", promptlayer_started(787))


def speaks_no_tls(upstream: FakeUpstream) -> None:
    """Answer TLS connections in plain text, as a misconfigured web server does."""
    upstream.on_accept([faults.sequence(NOT_TLS, faults.fin_after_request)] * 1000)


def configuration(url: str, plain_url: str) -> dict[str, JsonValue]:
    """Return additions to the tests' configuration; the server at `plain_url` does not support TLS."""
    accounts: dict[str, JsonValue] = {name: _account(f"{url}/{name}") for name in ACCOUNT_ANSWERS}
    accounts["slow"] = _account(f"{url}/slow", _LAYER)
    accounts["narrow"] = _account(f"{url}/narrow") | {"limits": {"concurrency": 1, "max_wait": "200ms"}}
    accounts["misconfigured"] = _account(plain_url.replace("http:", "https:"))
    accounts["clumsy"] = _account(url, "clumsy")
    workflows: dict[str, JsonValue] = {
        name: {"provider": name, "name": name, "timeout": "20s", "max_timeout": "20s"} for name in accounts
    }
    for name, price in (("costly", 1), ("thrifty", 45)):
        workflows[name] = {"provider": "prompt_studio", "name": name, "price": price}
    budgets: JsonValue = {
        "spent": {"amount": 2, "per": "month", "workflow": "costly"},
        "low": {"amount": 100, "per": "month", "workflow": "thrifty", "hard": False},
    }
    workflows["handed_on"] = {"provider": "locked", "name": "handed_on", "fallback": ["studio"]}
    return {
        "issuers": {"away": {"url": plain_url.replace("http:", "https:")}},
        "providers": accounts,
        "workflows": workflows,
        "budgets": budgets,
        "clients": {"two": {"limits": {"rate": "1/s"}}},
        "callbacks": {"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}], "allow": ["127.0.0.1/32"]},
        "polling": {"timeout": "10s"},  # longer than a response of `slow`
    }


def expected_codes() -> set[str]:
    """Problem codes that this load must cause, as proof that the faults occurred."""
    codes = {"circuit_open", "internal", "overloaded", "rate_limited", "run_failed", "upstream_credentials"}
    codes |= {
        "budget_exhausted",
        "upstream_disconnected",
        "upstream_misconfigured",
        "too_many_failures",
        "unauthorized",
    }
    assert codes <= set(PROBLEMS)
    return codes


def _belongs_to(account: str) -> Predicate:
    return lambda request: request.path.startswith(f"/{account}/")


def _account(url: str, adapter: str = _STUDIO) -> dict[str, JsonValue]:
    key = "PROMPTLAYER_API_KEY" if adapter == _LAYER else "PROMPT_STUDIO_API_KEY"
    return {"adapter": adapter, "base_url": url, "api_key": {"env": key}}
