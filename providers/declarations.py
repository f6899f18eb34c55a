"""Optional declarations of an adapter, and the functions that read them: one place for the gateway and for tests.

| attribute | default | meaning |
|---|---|---|
| `starts` | None | Paths that start paid runs, see `StartPattern`. Without it nothing is passed through to the provider. |
| `sdk_calls` | () | Passthrough rules of the calls that the provider's official SDKs make; `passthrough: sdk` stands for them. None may start runs. |
| `dialects` | None | Names that the setting `dialect` accepts, as an attribute of the class. |
| `options_schema` | None | Pydantic model of the setting `options`, or a callable that parses a mapping (ValueError). The parsed value is the factory's second argument. Without it the adapter has no options. |
| `request_headers` | () | Header fields that the adapter's calls may set. |
| `key_check` | None | A free `Call` that succeeds if the provider accepts the key; `runward check --connect` makes it. |
| `can_cancel` | False | True if `cancel(provider_run_id)` of the adapter returns the `CancelSteps` that ask the provider to stop a run in progress, or None for a run that it cannot stop. |
| `releases` | see `releases_of` | Kinds of release that a run may ask for: "label", "number", "text". |
"""  # noqa: E501 - a table

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias, cast
from urllib.parse import unquote

from providers.contract import Adapter, CancelSteps, JsonValue

Release: TypeAlias = Literal["label", "number", "text"]
AdapterFactory: TypeAlias = Callable[..., Adapter]
"""Object that an entry point of the group `runward.providers` names: called with the dialect, or None, and with the
parsed options where it has an `options_schema`. It raises ValueError for a dialect that it does not know."""

_START = re.compile(r"(\*|GET|POST|PUT|PATCH|DELETE) (/[!-~]*)")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_RESERVED_HEADERS = re.compile(
    r"host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-.*|accept|accept-encoding|range"
    r"|user-agent|authorization|proxy-.*|cookie|traceparent|tracestate|baggage|forwarded|via|x-forwarded-.*|x-real-ip"
    r"|x-http-method.*|x-method-override|x-original-.*|x-rewrite-.*"
)


class UnknownDialect(ValueError):
    """The adapter does not know the configured dialect."""


class InvalidOptions(ValueError):
    """The adapter rejects the configured options. `errors`: location within the options, and text, without values."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{location}: {text}".lstrip(": ") for location, text in errors))
        self.errors: tuple[tuple[str, str], ...] = tuple(errors)


@dataclass(frozen=True, slots=True)
class StartPattern:
    """Method and path of requests that start paid runs, relative to the base URL.

    `method` is "*" for every method, "GET" for GET alone; any other stands for every method except GET, because a
    server may route them alike. In `path`, "*" stands for any text, slashes included.
    """

    method: str
    path: str

    @classmethod
    def parse(cls, text: str) -> StartPattern:
        """Parse "POST /workflows/*/run"; ValueError where the text is not a method and a path."""
        match = _START.fullmatch(text)
        if match is None:
            raise ValueError("a start is a method and a path such as POST /workflows/*/run")
        return cls(match[1], match[2].lower().rstrip("/"))

    def matches(self, method: str, path: str) -> bool:
        """Return True if the request starts a run, in any spelling of its path that a server may understand."""
        return self._has_method(method) and any(_glob(self.path).fullmatch(text) for text in _spellings(path))

    def matches_prefix(self, method: str, prefix: str) -> bool:
        """Return True if a path that begins with `prefix` can start a run.

        For method "*", a GET prefix is refused only if every path below it is a start, so that reads stay allowed.
        """
        remainders = [rest for text in _spellings(prefix) for rest in _remainders(self.path, text)]
        if self.method == "*" and method == "GET":
            return any(set(rest) == {"*"} for rest in remainders)
        return self._has_method(method) and bool(remainders)

    def _has_method(self, method: str) -> bool:
        return self.method == "*" or (self.method == "GET") == (method == "GET")


def starts_of(adapter: Adapter) -> tuple[StartPattern, ...] | None:
    """Return the adapter's start patterns; None where it declares none. Raises ValueError for an invalid one."""
    declared: Iterable[str] | None = getattr(adapter, "starts", None)
    return None if declared is None else tuple(map(StartPattern.parse, declared))


def sdk_calls_of(adapter: Adapter) -> tuple[str, ...]:
    """Return the passthrough rules of the calls of official SDKs, such as "POST /log-request"; () without any."""
    return tuple(cast("Iterable[str]", getattr(adapter, "sdk_calls", ())))


def request_headers_of(adapter: Adapter) -> frozenset[str]:
    """Return the header names that the adapter's calls may set, in lower case.

    Raises ValueError for a name that belongs to the gateway: framing, credentials, forwarding, tracing.
    """
    names = frozenset(name.lower() for name in cast("Collection[str]", getattr(adapter, "request_headers", ())))
    for name in sorted(names):
        reserved = _RESERVED_HEADERS.fullmatch(name) or name == adapter.key_header.name.lower()
        if reserved or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"the adapter may not set the header {name!r}")
    return names


def releases_of(adapter: Adapter) -> frozenset[Release]:
    """Return the kinds of release that a run may ask for: by default label and number, if the adapter has versions."""
    default: tuple[Release, ...] = ("label", "number") if adapter.supports_versions else ()
    return frozenset(cast("Collection[Release]", getattr(adapter, "releases", default)))


def accepts_release(adapter: Adapter, label: str | None, version: int | str | None) -> bool:
    """Return True if the adapter honours this label and version; both None is always accepted."""
    kinds = releases_of(adapter)
    version_kind: Release = "number" if isinstance(version, int) else "text"
    return (label is None or "label" in kinds) and (version is None or version_kind in kinds)


def can_cancel(adapter: Adapter) -> bool:
    """Return True if the adapter can ask its provider to stop a run in progress."""
    return getattr(adapter, "can_cancel", False) is True


def cancel_steps(adapter: Adapter, provider_run_id: str) -> CancelSteps | None:
    """Return the steps that ask the provider to stop a run; None if the adapter cannot stop this run."""
    return cast("_CancellingAdapter", adapter).cancel(provider_run_id) if can_cancel(adapter) else None


def build_adapter(
    factory: AdapterFactory, dialect: str | None = None, options: Mapping[str, JsonValue] | None = None
) -> Adapter:
    """Build an adapter as the gateway does. Raises UnknownDialect or InvalidOptions."""
    dialects: Collection[str] | None = getattr(factory, "dialects", None)
    if dialect is not None and dialects is not None and dialect not in dialects:
        raise UnknownDialect(f"unknown dialect; there are: {', '.join(dialects)}" if dialects else "has no dialects")
    schema = getattr(factory, "options_schema", None)
    if schema is None and options:
        raise InvalidOptions([("", "the adapter has no options")])
    arguments = () if schema is None else (_parse_options(schema, options or {}),)
    try:
        return factory(dialect, *arguments)
    except ValueError as error:
        raise UnknownDialect(str(error)) from None


class _CancellingAdapter(Protocol):
    """Adapter that declares `can_cancel`."""

    def cancel(self, provider_run_id: str) -> CancelSteps | None: ...


class _ValidationError(Protocol):
    """Part of pydantic.ValidationError; adapters without options do not need pydantic."""

    def errors(self, *, include_url: bool, include_input: bool) -> list[Any]: ...


def _parse_options(schema: Any, options: Mapping[str, JsonValue]) -> object:
    parse: Callable[[Mapping[str, JsonValue]], object] = getattr(schema, "model_validate", schema)
    try:
        return parse(options)
    except ValueError as error:
        if not hasattr(error, "errors"):
            raise InvalidOptions([("", str(error))]) from None
        details = cast("_ValidationError", error).errors(include_url=False, include_input=False)
    raise InvalidOptions(
        [(".".join(map(str, detail["loc"])), str(detail["msg"]).removeprefix("Value error, ")) for detail in details]
    )


@lru_cache(maxsize=1024)
def _glob(path: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, path.split("*"))) + "/*", re.DOTALL)


def _spellings(path: str) -> tuple[str, str]:
    """Return the path as read by a server that decodes it once, and by one that decodes it twice."""
    once = unquote(path)
    return _canonical(once), _canonical(unquote(once))


def _canonical(path: str) -> str:
    return re.sub(r"/+", "/", re.sub(r";[^/]*", "", path)).lower()


def _remainders(glob: str, prefix: str) -> list[str]:
    """Return what may be left of the glob behind `prefix`: nothing where no text with that prefix matches it."""
    states = _skip_stars(glob, {0})
    for character in prefix:
        reached = {at for at in states if glob[at : at + 1] == "*" or (at == len(glob) and character == "/")}
        states = _skip_stars(glob, reached | {at + 1 for at in states if glob[at : at + 1] == character})
    return [glob[at:] for at in states]


def _skip_stars(glob: str, states: set[int]) -> set[int]:
    return states | {at + 1 for at in states if glob[at : at + 1] == "*"}
