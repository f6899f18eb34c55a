"""Authentication with stored keys: beside those of the configuration, and with the same answers."""

from __future__ import annotations

from hashlib import sha256

from gateway.auth.keys import new_key
from gateway.auth.stored_keys.directory import MAX_AGE, KeyDirectory
from gateway.auth.stored_keys.terms import KeyTerms
from gateway.store.client_key import StoredKey
from tests.http.server_harness import EXPIRED_KEY, UNKNOWN_KEY, ServerHarness, build_run_request, parse_responses

RUN = b'{"workflow":"w"}'


async def store_key(server: ServerHarness, text: str, **members: object) -> KeyDirectory:
    """Give the server a copy with one stored key of the client `one`."""
    directory = KeyDirectory(server.clock)
    terms = KeyTerms("app", ("w",)).encode()
    digest = sha256(text.encode()).digest()
    directory.apply([StoredKey("key_1", "one", digest, terms, 0.0, revision=1, **members)])  # type: ignore[arg-type]
    directory.confirm(server.clock.monotonic())
    server.authenticator.stored_keys = directory
    return directory


async def test_a_stored_key_stands_for_its_client(server: ServerHarness) -> None:
    stored = new_key(server.clock)
    await store_key(server, stored)
    [found] = parse_responses(await server.send_raw(build_run_request(RUN, key=stored)))
    assert 200 == found.status
    [line] = [each for each in server.log_entries if each["event"] == "request"]
    assert "one" == line["client"]


async def test_the_configuration_goes_before_a_stored_key(server: ServerHarness) -> None:
    """An expired key of the configuration is not accepted because the store has it too."""
    await store_key(server, EXPIRED_KEY)
    assert 401 == parse_responses(await server.send_raw(build_run_request(RUN, key=EXPIRED_KEY)))[0].status


async def test_every_refused_stored_key_gets_the_answer_of_an_unknown_one(server: ServerHarness) -> None:
    stored = new_key(server.clock)
    seen = set()
    for why in ("unknown", "revoked", "expired", "no_client"):
        at = server.clock.now().timestamp()
        await store_key(server, stored, **{"revoked": {"revoked_at": at}, "expired": {"expires_at": at}}.get(why, {}))
        if why == "no_client":
            server.authenticator.reconfigure(server.authenticator.keys, {})
        key = UNKNOWN_KEY if why == "unknown" else stored
        [found] = parse_responses(await server.send_raw(build_run_request(RUN, key=key)))
        kept = {k: v for k, v in found.headers.items() if k not in {"x-request-id", "date"}}
        seen.add((found.status, str(kept), found.body.replace(found.headers["x-request-id"].encode(), b"ID")))
        [*_, line] = [each for each in server.log_entries if each["event"] == "key_refused"]
        assert (why, None if why == "unknown" else "key_1") == (line["why"], line.get("key_id"))
    assert 1 == len(seen)
    assert stored not in repr(server.log_entries)


async def test_what_cannot_be_known_of_a_key_is_no_refusal_for_ever(server: ServerHarness) -> None:
    """503, and nothing was run; keys of the configuration work. Guesses are limited as ever."""
    stored = new_key(server.clock)
    server.authenticator.stored_keys = KeyDirectory(server.clock)
    [found] = parse_responses(await server.send_raw(build_run_request(RUN, key=stored)))
    document = found.json
    assert (503, "store_unavailable", "not_run", True) == (
        found.status,
        document["code"],
        document["outcome"],
        document["retryable"],
    )
    assert 200 == parse_responses(await server.send_raw(build_run_request(RUN)))[0].status
    assert 401 == parse_responses(await server.send_raw(build_run_request(RUN, key="CANARY")))[0].status
    statuses = [
        parse_responses(await server.send_raw(build_run_request(RUN, key=UNKNOWN_KEY)))[0].status for _ in range(30)
    ]
    assert {503, 429} == set(statuses)
    await store_key(server, stored)
    server.clock.advance(MAX_AGE + 1.0)
    answers = [parse_responses(await server.send_raw(build_run_request(RUN, key=stored)))[0] for _ in range(30)]
    assert {503} == {each.status for each in answers}  # never counted as failed attempts
