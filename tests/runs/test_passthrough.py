"""Passing a request on: within the limits, once, and again only where nothing can have been sent."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from gateway.passthrough_rules import PassthroughRule, normalize_path
from gateway.runs.catalog import Provider
from gateway.runs.passthrough import Passthrough
from providers.contract import Cause, Reply
from providers.prompt_studio import PromptStudio
from providers.promptlayer import PromptLayer
from tests.runs.executor_harness import ExecutorHarness, ScriptedUpstream, ScriptStep, fault

ALLOWED = {
    "one": {
        "layer": (
            PassthroughRule.parse("POST /log-request"),
            PassthroughRule.parse("GET /w*"),
            PassthroughRule.parse("POST /workflows/*"),
        ),
        "studio": (PassthroughRule.parse("GET /other"), PassthroughRule.parse("POST /log-request")),
    }
}


def passthrough_to(harness: ExecutorHarness, *script: ScriptStep) -> tuple[Passthrough, ScriptedUpstream]:
    """Return a passthrough to a provider with this script."""
    upstream = harness.upstream(*script)
    providers = {
        "layer": Provider("layer", PromptLayer(), upstream),
        "studio": Provider("studio", PromptStudio(), upstream),
    }
    return Passthrough(
        ALLOWED, providers, limits=harness.limiter, clock=harness.clock, metrics=harness.metrics
    ), upstream


async def forward(passthrough: Passthrough) -> int:
    """Pass one on; the status of its answer."""
    async with passthrough.forward(
        "one",
        "layer",
        client_connected=lambda: True,
        method="POST",
        path="/log-request",
        query="",
        headers=(),
        body=b"",
        client_key="rw_x",
    ) as returned:
        return returned.status


async def refusal(passthrough: Passthrough) -> str:
    """Pass one on that meets a problem; its code."""
    with pytest.raises(GatewayError) as refused:
        await forward(passthrough)
    return refused.value.code


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_whatever_is_answered_is_the_answer(status: int) -> None:
    passthrough, upstream = passthrough_to(ExecutorHarness(), Reply(status))
    assert (status, 1) == (await forward(passthrough), len(upstream.relayed))


async def test_it_has_sixty_seconds() -> None:
    harness = ExecutorHarness()
    passthrough, upstream = passthrough_to(harness, Reply(200))
    await forward(passthrough)
    [(request, deadline)] = upstream.relayed
    assert ("/log-request", 60.0) == (request.path, deadline - harness.clock.monotonic())


async def test_a_second_attempt_is_made_where_no_connection_was_possible() -> None:
    passthrough, upstream = passthrough_to(ExecutorHarness(), fault(Cause.UNREACHABLE), Reply(200))
    assert (200, 2) == (await forward(passthrough), len(upstream.relayed))


async def test_at_most_two_attempts_are_made() -> None:
    passthrough, upstream = passthrough_to(ExecutorHarness(), fault(Cause.UNREACHABLE))
    assert ("upstream_unreachable", 2) == (await refusal(passthrough), len(upstream.relayed))


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.UNREACHABLE])
async def test_everything_else_is_sent_once(cause: Cause) -> None:
    """A repetition may be unsafe."""
    passthrough, upstream = passthrough_to(ExecutorHarness(), fault(cause))
    await refusal(passthrough)
    assert 1 == len(upstream.relayed)


async def test_a_request_counts_in_the_limits_and_releases_them() -> None:
    """The client's rate and slots, and the provider's."""
    harness = ExecutorHarness(client=ClientLimitsConfig(rate=RateLimit(2, 3600), burst=2, concurrency=1))
    passthrough, upstream = passthrough_to(harness, Reply(200))
    assert [200, 200] == [await forward(passthrough) for _ in range(2)]
    assert ("rate_limited", 2) == (await refusal(passthrough), len(upstream.relayed))
    harness = ExecutorHarness(providers={"layer": ResourceLimitsConfig(rate=RateLimit(1, 3600), burst=1, max_wait=0)})
    passthrough, upstream = passthrough_to(harness, Reply(200))
    assert 200 == await forward(passthrough)
    assert ("overloaded", 1) == (await refusal(passthrough), len(upstream.relayed))


async def test_a_slot_is_free_again_after_a_fault() -> None:
    passthrough, _ = passthrough_to(
        ExecutorHarness(client=ClientLimitsConfig(concurrency=1)), fault(Cause.DISCONNECTED)
    )
    assert ["upstream_disconnected"] * 2 == [await refusal(passthrough) for _ in range(2)]


@pytest.mark.parametrize(
    ("client", "method", "path", "expected"),
    [
        ("one", "POST", "/log-request", "layer"),
        ("one", "GET", "/other", "studio"),
        ("one", "GET", "/workflows/x", "layer"),
        ("one", "GET", "/workflows/x/run", None),
        ("one", "POST", "/workflows/x", "layer"),
        ("one", "POST", "/workflows/x/run", None),
        ("one", "POST", "/%77orkflows/x/run", None),
        ("one", "GET", "/none", None),
        ("two", "POST", "/log-request", None),
    ],
)
def test_which_provider_a_request_is_forwarded_to(client: str, method: str, path: str, expected: str | None) -> None:
    """The first provider that lists the request, unless the request starts a run at that provider."""
    passthrough, _ = passthrough_to(ExecutorHarness())
    assert expected == passthrough.find_provider(client, method, path)


class Chat(PromptStudio):
    """An adapter of a third party, whose paths are not PromptLayer's."""

    starts = ("POST /v1/chat-messages",)


class Undeclared(PromptStudio):
    """An adapter that does not declare which requests start runs."""

    starts = None  # type: ignore[assignment]


ANYTHING = tuple(PassthroughRule(method, "/", is_prefix=True) for method in ("POST", "PUT", "GET"))
CHAT_STARTS = [
    "/v1/chat-messages", "/v1/chat-messages/", "/V1/Chat-Messages", "/v1%2Fchat-messages", "/v1%2fchat-messages%2F",
    "/v1/chat%2Dmessages", "/v1/%63hat-messages", "/v1/chat-messages;x=1", "/v1;x/chat-messages", "//v1/chat-messages",
    "/v1%252Fchat-messages", "/v1/chat%252Dmessages", "/v1%2F%2Fchat-messages", "/v1//chat-messages",
    "/x/../v1/chat-messages", "/v1/./chat-messages", "/v1/%2e/chat-messages", "/x/%252e%252e/v1/chat-messages",
    "/v1\\chat-messages", "/v1%5Cchat-messages",
]  # fmt: skip


@pytest.mark.parametrize("path", CHAT_STARTS)
@pytest.mark.parametrize("provider", ["chat", "layer"])
def test_a_start_of_any_provider_is_never_passed_to_any(provider: str, path: str) -> None:
    """In every spelling of its path that a server may understand, and also where another provider lists it."""
    harness = ExecutorHarness()
    upstream = harness.upstream()
    providers = {
        "layer": Provider("layer", PromptLayer(), upstream), "chat": Provider("chat", Chat(), upstream),
        "undeclared": Provider("undeclared", Undeclared(), upstream),
    }  # fmt: skip
    rules = {"one": {provider: ANYTHING, "undeclared": ANYTHING}}
    passthrough = Passthrough(rules, providers, limits=harness.limiter, clock=harness.clock, metrics=harness.metrics)
    normalized = normalize_path(path)
    for method in ("POST", "PUT"):
        assert normalized is None or passthrough.find_provider("one", method, normalized) is None
    assert provider == passthrough.find_provider("one", "POST", "/v1/messages")
    assert provider == passthrough.find_provider("one", "GET", "/v1/chat-messages")  # a list of earlier messages


def test_which_requests_any_client_may_send() -> None:
    passthrough, _ = passthrough_to(ExecutorHarness())
    found = [passthrough.allows(*each) for each in (("GET", "/other"), ("POST", "/workflows/x/run"), ("PUT", "/other"))]
    assert [True, False, False] == found


def test_what_is_allowed_can_change() -> None:
    passthrough, _ = passthrough_to(ExecutorHarness())
    passthrough.reconfigure({"two": ALLOWED["one"]}, {})
    assert [None, "layer"] == [passthrough.find_provider(c, "POST", "/log-request") for c in ("one", "two")]
    passthrough.reconfigure({}, {})
    assert not passthrough.allows("POST", "/log-request")


async def test_a_provider_removed_by_a_reload_is_not_called() -> None:
    """Removed while the body was received."""
    passthrough, upstream = passthrough_to(ExecutorHarness(), Reply(200))
    passthrough.reconfigure({}, {})
    assert ("forbidden", 0) == (await refusal(passthrough), len(upstream.relayed))


async def test_a_queued_request_keeps_the_provider_that_it_found() -> None:
    """A reload in the meantime has no effect on it."""
    harness = ExecutorHarness(providers={"layer": ResourceLimitsConfig(rate=RateLimit(1, 1), burst=1, max_wait=5)})
    passthrough, upstream = passthrough_to(harness, Reply(200))
    await forward(passthrough)
    waiting = asyncio.create_task(forward(passthrough))
    await asyncio.sleep(0)
    passthrough.reconfigure({}, {})
    assert (200, 2) == (await waiting, len(upstream.relayed))
