"""Contract between the gateway and a provider adapter: call, reply, pause, outcome, fault.

An adapter is a generator of calls. It reads like blocking code and does no I/O::

    def steps(self, run: Run) -> Steps:
        started = yield from ask(Call("POST", "/start", "start", safe=False, json={...}), read_start)
        ...
        return Outcome(succeeded=True, output=started)

It yields a `Call` and is sent the `Reply`. It yields a `Pause` to wait. It yields a `ProviderFault` to reject a reply
(`ask` does so), and is then sent another reply or closed. It returns an `Outcome`. A fault that it raises ends the run
without a retry. The base URL, the key, TLS, redirects, size limits, deadlines, retries and metrics belong to the
gateway. `Run`, `Call`, `Reply` and `Outcome` are values that must not be changed; a frozen one takes three times as
long to make. `providers.declarations` describes what an adapter may declare in addition, `providers.testing` tests one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Literal, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | dict[str, JsonValue]"
Parameters: TypeAlias = "Mapping[str, str] | Sequence[tuple[str, str]]"
"""Names and values; a sequence of pairs where a name occurs more than once."""
T = TypeVar("T")


class Unreadable(enum.Enum):
    """Body of a reply that is not JSON: HTML, an empty body, a truncated text."""

    UNREADABLE = enum.auto()


UNREADABLE = Unreadable.UNREADABLE
MAX_RAW_ERROR_BYTES = 65_536
"""Maximum size of a text of `RawError`, in bytes of UTF-8."""
MAX_NODES = 200
"""Maximum number of the nodes of a `Pause`."""
MAX_NODE_NAME = 200
"""Maximum length of the name of a node of a `Pause`, in characters."""
NodeStatus: TypeAlias = Literal["queued", "running", "succeeded", "failed", "skipped"]
"""Status of one node of a workflow while the run is in progress."""


class Cause(enum.Enum):
    """Cause of a failed call; the gateway's retry table has one row for each."""

    UNREACHABLE = "unreachable"  # DNS, connection refused, connect, TLS or pool time-out: nothing was sent
    EXHAUSTED = "exhausted"  # no file descriptor or memory left for a connection: nothing was sent
    MISCONFIGURED = "misconfigured"  # certificate or TLS version not accepted: nothing was sent
    THROTTLED = "throttled"  # 429
    UNAVAILABLE = "unavailable"  # 503 with Retry-After
    DISCONNECTED = "disconnected"  # reset or FIN before the response headers
    GATEWAY_ERROR = "gateway_error"  # 502, 504, 503 without Retry-After, 408: an intermediary answered
    TIMEOUT = "timeout"  # sent, and no response in time
    SERVER_ERROR = "server_error"  # 500 and the rest of 5xx: the run may have started
    RUN_FAILED = "run_failed"  # the provider reports that the run was executed and failed
    INVALID_REPLY = "invalid_reply"  # truncated, unparsable, redirect, wrong shape
    TOO_LARGE = "too_large"  # larger than the configured maximum
    REJECTED = "rejected"  # 400, 422 and the rest of 4xx
    CREDENTIALS = "credentials"  # 401, 403
    NOT_FOUND = "not_found"  # 404


class ProviderFault(Exception):
    """Failed call.

    `detail` is text for people: cleaned and truncated by `clean`, or the adapter's own text. `retry_after` is the
    provider's hint in seconds from now, never negative, or None.
    """

    def __init__(self, cause: Cause, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(cause.value)
        self.cause = cause
        self.detail = detail
        self.retry_after = retry_after


@dataclass(slots=True, unsafe_hash=True)
class Run:
    """Request for a run: the provider's own name of the workflow, and its input.

    `label` and `version` exclude each other; both are None where the adapter does not accept them. `version` is a text
    where the provider's versions are texts. `notify_url`: the provider may POST anything to it when the run has ended;
    the gateway then polls, and does not read the POST.
    """

    workflow: str
    input: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    version: int | str | None = None
    return_all_outputs: bool = False
    notify_url: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class Call:
    """HTTP request, relative to the provider's base URL.

    `path` begins with "/" and is already percent-encoded (see `segment`); `query` is encoded and appended. `operation`
    is the name in the metrics. `safe`: repeating the request costs nothing, so polls are safe and a start is not. The
    body is `json`, or `form` (application/x-www-form-urlencoded), or empty where both are None. `headers` must be
    listed in the adapter's `request_headers`. `optional`: the outcome does not depend on the reply; the request is sent
    once, and where no usable reply came the adapter is sent `Reply(0)`.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    operation: str
    safe: bool
    json: JsonValue = None
    query: Parameters = ()
    form: Parameters | None = None
    headers: Parameters = ()
    optional: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Reply:
    """Complete response with a parsed body.

    `retry_after` is the Retry-After header in seconds from now, either form of it (RFC 9110, 10.2.3), or None where it
    is absent or invalid. `repairs` names what in the body was not valid JSON and was replaced, one sentence each; the
    gateway reports it in the run's `warning`. `connection_reused`: the connection had served a call before; None if
    that is not known.
    """

    status: int
    body: JsonValue | Unreadable = UNREADABLE
    retry_after: float | None = None
    repairs: tuple[str, ...] = ()
    connection_reused: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """The run continues at the provider: wait before the next poll. The gateway decides how long.

    `provider_run_id` is the provider's own id of the run; `Adapter.follow` finds the run by it. `will_notify`: the
    provider has accepted the run's `notify_url`, so it is polled less often. Only the first `Pause` of a run can set
    it. `nodes`: the status of each node where the last reply has them, as `node_statuses` bounds them; empty otherwise.
    """

    provider_run_id: str
    will_notify: bool = False
    nodes: Mapping[str, NodeStatus] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeOutput:
    """Result of one node of a workflow. `error` is cleaned and truncated."""

    status: Literal["succeeded", "failed", "skipped"]
    value: JsonValue = None
    error: str | None = None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class RawError:
    """Error of a node as the provider sent it, bounded by `bounded`: its message, and its further details.

    It is returned through the provider's own API alone; Runward's documents and logs have the cleaned
    `NodeOutput.error`.
    """

    message: str | None = None
    details: JsonValue = None


@dataclass(slots=True, unsafe_hash=True)
class Outcome:
    """End of a run at the provider. `outputs` is None where the provider has no nodes.

    `raw_errors`: the errors of its nodes, by node, where the provider sent any.

    A run that failed is an `Outcome` with `succeeded=False`: it keeps `provider_run_id` and `outputs`, which a raised
    `ProviderFault(Cause.RUN_FAILED)` does not. The fault is for providers that answer a failed run by a bare status.
    """

    succeeded: bool
    output: JsonValue = None
    outputs: Mapping[str, NodeOutput] | None = None
    warning: str | None = None
    error: str | None = None
    provider_run_id: str | None = None
    raw_errors: Mapping[str, RawError] | None = None


Step: TypeAlias = Call | Pause | ProviderFault
Steps: TypeAlias = Generator[Step, Reply, Outcome]
"""Types that the generator yields, is sent, and returns. After a `Pause` it is sent a reply without a meaning."""
CancelSteps: TypeAlias = Generator[Step, Reply, bool]
"""The calls that ask the provider to stop a run in progress: safe ones, without a `Pause`, since they may be repeated.
Returns True if the provider has accepted the request, False if it says that the run can no longer be stopped."""


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """Header that carries the provider's key: `API_KEY: <key>`, or `Authorization: Bearer <key>`."""

    name: str
    prefix: str = ""


class Adapter(Protocol):
    """One provider's API, as data and one generator.

    An adapter may declare more in optional attributes: `providers.declarations` lists them with their defaults.
    """

    @property
    def key_header(self) -> KeyHeader:
        """Header of the key."""

    @property
    def base_url(self) -> str | None:
        """Public address of the provider, used where the configuration names none; None where there is none."""

    @property
    def supports_versions(self) -> bool:
        """True if a run may ask for a label or a version; `accepts_release` has the details."""

    @property
    def supports_nodes(self) -> bool:
        """True if a run has outputs per node."""

    def steps(self, run: Run) -> Steps:
        """Start the run and follow it to its end."""

    def follow(self, provider_run_id: str) -> Steps | None:
        """Follow a run that was started before; None where the provider cannot be polled."""


def ask(call: Call, read: Callable[[Reply], T]) -> Generator[Step, Reply, T]:
    """Yield `call` until `read` accepts the reply; `read` rejects one by raising `ProviderFault`."""
    reply = yield call
    while True:
        try:
            return read(reply)
        except ProviderFault as fault:
            rejection = fault
        reply = yield rejection


@lru_cache(maxsize=1024)
def segment(name: str) -> str:
    """Percent-encode `name` as exactly one segment of a path.

    Raises ValueError for "", and for "." and "..", which percent-encoding cannot protect (RFC 3986, 5.2.4 and 6.2.2.2).
    """
    if name in {"", ".", ".."}:
        raise ValueError("not a path segment")
    return quote(name, safe="")


def clean(text: str, limit: int = 200) -> str:
    """Clean a provider's text for display: one line, no control characters, no stack trace, at most `limit` long."""
    visible = "".join(c if c.isprintable() else " " for c in text[: 4 * limit].partition("Traceback")[0])
    return " ".join(visible.split())[:limit].rstrip(": ")


def bounded(text: str, limit: int = MAX_RAW_ERROR_BYTES) -> str:
    """Return `text`, cut to at most `limit` bytes of UTF-8."""
    if 4 * len(text) <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore")


def node_statuses(nodes: Iterable[tuple[str, NodeStatus | None]]) -> dict[str, NodeStatus]:
    """Return the statuses for a `Pause`: the first `MAX_NODES`, without those that are None or have a long name."""
    known = ((name, status) for name, status in nodes if status is not None and len(name) <= MAX_NODE_NAME)
    return dict(islice(known, MAX_NODES))


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
    """Map an unexpected status to a fault, alike for every provider; `message` is cleaned here."""
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


def invalid(detail: str) -> ProviderFault:
    """Create the fault for a reply of the wrong shape; `detail` is the adapter's own text."""
    return ProviderFault(Cause.INVALID_REPLY, detail)
