"""What an adapter is: a generator of calls, and the words it shares with the gateway.

An adapter reads like blocking code and does no I/O::

    def steps(self, run: Run) -> Steps:
        started = yield from ask(Call("POST", "/start", json={...}, safe=False), read_start)
        ...
        return Outcome(succeeded=True, output=started)

It yields a `Call` and is sent the `Reply`; it yields a `Pause` to wait; it yields the `ProviderFault` by which it
refuses a reply (that is what `ask` does) and is sent another reply, or closed. It returns an `Outcome`; a fault that it
raises ends the run, and nothing is repeated. Base URL, key, size, redirects, TLS, deadline, retries and metrics are the
gateway's: an adapter can do nothing insecure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"
T = TypeVar("T")


class Unreadable(enum.Enum):
    """The body of a reply that is not JSON: HTML, nothing at all, NaN, a cut-off text."""

    UNREADABLE = enum.auto()


UNREADABLE = Unreadable.UNREADABLE


class Cause(enum.Enum):
    """Why a call did not do its work; the gateway's retry table has one row for each."""

    UNREACHABLE = "unreachable"  # DNS, refused, connect, TLS or pool time-out: nothing was sent
    EXHAUSTED = "exhausted"  # we have no file descriptor or memory left for a connection: nothing was sent
    MISCONFIGURED = "misconfigured"  # a certificate or TLS version we do not accept: nothing was sent
    THROTTLED = "throttled"  # 429
    UNAVAILABLE = "unavailable"  # 503 with Retry-After
    DISCONNECTED = "disconnected"  # reset or FIN before the answer's headers
    GATEWAY_ERROR = "gateway_error"  # 502, 504, bare 503, 408: somebody between us and the provider
    TIMEOUT = "timeout"  # sent, and no answer in time
    SERVER_ERROR = "server_error"  # 500 and the rest of 5xx: the run may have started
    RUN_FAILED = "run_failed"  # the provider says the run was executed and failed
    INVALID_REPLY = "invalid_reply"  # truncated, unparsable, redirect, wrong shape
    TOO_LARGE = "too_large"  # more bytes than we read
    REJECTED = "rejected"  # 400, 422 and the rest of 4xx
    CREDENTIALS = "credentials"  # 401, 403
    NOT_FOUND = "not_found"  # 404


class ProviderFault(Exception):
    """A call that did not do its work.

    `detail` is for people: cleaned and capped by `clean`, or our own words. `retry_after` is the provider's hint in
    seconds from now, never negative, or None.
    """

    def __init__(self, cause: Cause, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(cause.value)
        self.cause = cause
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Run:
    """What is asked of a provider: its own name of the workflow, and what goes in.

    `label` and `version` exclude each other, and are None where the adapter has no `versions`. `hint_url` is where the
    provider may POST anything at all when the run has ended; it is asked about the run then, and the POST is not read.
    """

    workflow: str
    input: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    version: int | None = None
    return_all_outputs: bool = False
    notify_url: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, relative to the provider's base URL.

    `path` begins with "/" and is already percent-encoded (see `segment`). `safe` says that repeating it costs
    nothing: asking is safe, starting a run is not. `operation` is its name in the metrics.
    """

    method: Literal["GET", "POST"]
    path: str
    operation: str
    safe: bool
    json: JsonValue = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that arrived whole; `body` is parsed strictly.

    `retry_after` is the answer's header of that name in seconds from now, either form of it (RFC 9110, 10.2.3), or
    None where it is missing or makes no sense.
    """

    status: int
    body: JsonValue | Unreadable = UNREADABLE
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """The run goes on at the provider: wait before asking again. The gateway decides how long.

    `provider_run_id` is what the provider calls this run, so that it can be found again. `hinted`: it has promised to
    call the run's `hint_url`; then it is asked less often. Only the first `Pause` of a run can say so.
    """

    provider_run_id: str
    will_notify: bool = False


@dataclass(frozen=True, slots=True)
class NodeOutput:
    """What one node of a workflow made. `error` is cleaned and capped."""

    status: Literal["succeeded", "failed", "skipped"]
    value: JsonValue = None
    error: str | None = None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended at the provider. `outputs` is None where the provider has no nodes."""

    succeeded: bool
    output: JsonValue = None
    outputs: Mapping[str, NodeOutput] | None = None
    warning: str | None = None
    error: str | None = None
    provider_run_id: str | None = None


Step: TypeAlias = Call | Pause | ProviderFault
Steps: TypeAlias = Generator[Step, Reply, Outcome]
"""What the generator yields, is sent, and returns. (After a `Pause` the reply sent is meaningless.)"""


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """Where the provider wants its key: `API_KEY: <key>`, or `Authorization: Bearer <key>`."""

    name: str
    prefix: str = ""


class Adapter(Protocol):
    """One provider's way of running a workflow, as data and one generator."""

    @property
    def key_header(self) -> KeyHeader:
        """Where the key goes."""

    @property
    def base_url(self) -> str:
        """The provider's public address, used where the configuration names none."""

    @property
    def supports_versions(self) -> bool:
        """Whether a label or version can be asked for."""

    @property
    def supports_nodes(self) -> bool:
        """Whether a run has outputs per node."""

    def steps(self, run: Run) -> Steps:
        """Start the run and follow it to its end."""

    def follow(self, provider_run_id: str) -> Steps | None:
        """Follow a run that was started before, or None where the provider can not be asked."""


class AdapterFactory(Protocol):
    """What an entry point of the group `runward.providers` names."""

    def __call__(self, dialect: str | None) -> Adapter:
        """Build the adapter; ValueError where it does not know the dialect."""


def ask(call: Call, read: Callable[[Reply], T]) -> Generator[Step, Reply, T]:
    """Make `call` until `read` accepts the reply; `read` refuses one by raising `ProviderFault`."""
    reply = yield call
    while True:
        try:
            return read(reply)
        except ProviderFault as fault:
            refused = fault
        reply = yield refused


@lru_cache(maxsize=1024)
def segment(name: str) -> str:
    """`name` as exactly one segment of a path, whatever it holds.

    "." and ".." can not be protected by percent-encoding (RFC 3986, 5.2.4 and 6.2.2.2): ValueError, as for "".
    """
    if name in {"", ".", ".."}:
        raise ValueError("not a path segment")
    return quote(name, safe="")


def clean(text: str, limit: int = 200) -> str:
    """A provider's words, fit to be shown: one line, no control characters, no stack trace, at most `limit` long."""
    visible = "".join(c if c.isprintable() else " " for c in text[: 4 * limit].partition("Traceback")[0])
    return " ".join(visible.split())[:limit].rstrip(": ")


_CAUSES = {
    401: Cause.CREDENTIALS,
    403: Cause.CREDENTIALS,
    404: Cause.NOT_FOUND,
    408: Cause.GATEWAY_ERROR,
    429: Cause.THROTTLED,
    502: Cause.GATEWAY_ERROR,
    503: Cause.GATEWAY_ERROR,
    504: Cause.GATEWAY_ERROR,
}


def refusal(reply: Reply, message: str = "") -> ProviderFault:
    """What a status means, to every provider alike, where the call expected another; `message` is cleaned here."""
    status = reply.status
    cause = _CAUSES.get(status)
    if status == 503 and reply.retry_after is not None:
        cause = Cause.UNAVAILABLE
    elif cause is None and 400 <= status < 500:
        cause = Cause.REJECTED
    elif cause is None and 500 <= status < 600:
        cause = Cause.SERVER_ERROR
    elif cause is None:
        return invalid(f"status {status} was not expected")
    return ProviderFault(cause, clean(message), retry_after=reply.retry_after)


def invalid(what: str) -> ProviderFault:
    """A reply whose shape is wrong; `what` is our own words."""
    return ProviderFault(Cause.INVALID_REPLY, what)
