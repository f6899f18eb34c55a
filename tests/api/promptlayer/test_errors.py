"""Problems in PromptLayer's format: every error code, and the problems of real requests."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gateway.api.promptlayer.errors import problem_members, render_problem
from gateway.http.request import Request
from gateway.problems import PROBLEMS, FieldError, Problem
from tests.api.promptlayer.app_client import BODY, RESULTS, PromptLayerApp, error_locations
from tests.support.client import ReceivedResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

FAKE_REQUEST = cast("Request", SimpleNamespace(request_id="req_1"))
RUN = "/workflows/layer/run"


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_has_message_and_error(code: str) -> None:
    """The Python SDK reads `message`, the JavaScript SDK `error`; the status is unchanged."""
    answer = render_problem(Problem(code), FAKE_REQUEST)
    assert isinstance(answer.body, bytes)
    body = json.loads(answer.body)
    assert (PROBLEMS[code].status, "application/json") == (answer.status, answer.content_type)
    assert (False, body["error"], code, "req_1") == (
        body["success"], body["message"], body["code"], body["request_id"]
    )  # fmt: skip
    assert PROBLEMS[code].title + "." == body["message"]


@pytest.mark.parametrize(("outcome", "status"), [("unknown", 409), ("not_run", 503)])
def test_where_a_run_may_have_been_accepted_no_sdk_repeats_it(outcome: str, status: int) -> None:
    """R45: the JavaScript SDK repeats a request up to three times after a 5xx, without an Idempotency-Key."""
    assert status == render_problem(Problem("store_unavailable", extra={"outcome": outcome}), FAKE_REQUEST).status


def test_errors_have_the_form_of_fastapi() -> None:
    wrong = (
        FieldError("/metadata/a~1b", "Input should be a valid string"),
        FieldError("?page", "no number"),
        FieldError("", "x"),
    )
    shown = problem_members(Problem("invalid_request", "The request body is invalid: 3 errors.", errors=wrong))
    assert [
        {"loc": ["body", "metadata", "a/b"], "msg": "Input should be a valid string", "type": "value_error"},
        {"loc": ["query", "page"], "msg": "no number", "type": "value_error"},
        {"loc": ["body"], "msg": "x", "type": "value_error"},
    ] == shown["detail"]
    assert "body.metadata.a/b: Input should be a valid string; query.page: no number; body: x" == shown["message"]


def test_the_headers_of_a_problem_stay() -> None:
    """Retry-After is kept, rounded up."""
    answer = render_problem(Problem("rate_limited", retry_after=1.2, headers=(("RateLimit", "r"),)), FAKE_REQUEST)
    assert ("2", "r") == (answer.headers["Retry-After"], answer.headers["RateLimit"])


@pytest.fixture
async def app(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> AsyncIterator[PromptLayerApp]:
    """Client of a gateway at which nothing may be started."""
    yield PromptLayerApp(session, await gateway(None, server={"max_body": 2000}))
    assert [] == upstream.received


def assert_problem(answered: ReceivedResponse, status: int, code: str) -> None:
    body = answered.json
    assert (status, code, False) == (answered.status, body["code"], body["success"])
    assert (body["message"], answered.headers["X-Request-Id"]) == (body["error"], body["request_id"])
    assert "application/json" == answered.headers["Content-Type"]


async def test_what_clients_meet(app: PromptLayerApp) -> None:
    """401, 404, 405, 413 and 415 have the same shape, also after a doubled slash."""
    for slash in ("", "/"):
        for method, path in (("POST", RUN), ("GET", RESULTS), ("GET", "/workflows"), ("GET", "/workflows/layer")):
            refused = await app.request(method, slash + path, X_API_KEY="pl_wrong")
            assert_problem(refused, 401, "unauthorized")
            assert "WWW-Authenticate" in refused.headers
        assert_problem(await app.request("POST", slash + "/workflows/none/run", dict(BODY)), 404, "workflow_not_found")
        assert_problem(await app.request("GET", slash + "/workflows/none/such"), 404, "workflow_not_found")
        wrong = await app.request("PATCH", slash + RUN, {})
        assert_problem(wrong, 405, "method_not_allowed")
        assert "POST" in wrong.headers["Allow"]
        assert_problem(
            await app.request("POST", slash + RUN, {"input_variables": {"a": 3000 * "x"}}), 413, "payload_too_large"
        )
        assert_problem(
            await app.request("POST", slash + RUN, {}, Content_Type="text/plain"), 415, "unsupported_media_type"
        )
    for name in ("%FF", 513 * "x", "%ED%A0%80"):
        assert_problem(await app.request("POST", f"/workflows/{name}/run", dict(BODY)), 404, "workflow_not_found")


async def test_what_is_not_json_and_what_may_not_be_called(app: PromptLayerApp) -> None:
    assert_problem(await app.request("POST", RUN, "not an object"), 422, "invalid_request")
    assert_problem(
        await app.request("POST", RUN, {**BODY, "callback_url": "http://127.0.0.1/"}), 422, "callback_url_refused"
    )
    assert_problem(await app.request("POST", RUN, dict(BODY), Idempotency_Key="é"), 400, "invalid_idempotency_key")
    wrong = await app.start_run("layer", {"metadata": {"n": 1}})
    assert_problem(wrong, 422, "invalid_request")
    assert [["body", "metadata", "n"]] == error_locations(wrong)
