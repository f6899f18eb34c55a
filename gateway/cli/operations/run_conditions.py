"""Options that select runs, for every command that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from inspect import Parameter, signature
from typing import Annotated, Any, Final, TypeAlias

import typer

Conditions: TypeAlias = Mapping[str, str | bool | list[str] | None]
"""Parameters of the query of a list; None for one that was not given."""


class Status(StrEnum):
    """Status of a run."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    unknown = "unknown"
    not_run = "not_run"


class Api(StrEnum):
    """API that a client uses."""

    run = "run"
    promptlayer = "promptlayer"
    prompt_studio = "prompt_studio"


class WaitCause(StrEnum):
    """What an unfinished run waits for."""

    limit = "limit"
    breaker = "breaker"
    backoff = "backoff"
    store = "store"


def _option(kind: Any, text: str, *names: str, **settings: Any) -> Any:
    return Annotated[kind, typer.Option(*names, help=text, show_default=False, **settings)]


_TIME: Final = {"metavar": "TIME"}
_SECONDS: Final = {"metavar": "SECONDS"}

CONDITIONS: Mapping[str, Any] = {
    "client": _option(str | None, "Name of the client."),
    "team": _option(str | None, "Team of the client when it asked for the run."),
    "key": _option(str | None, "Id of the client's key, if it is in the store.", "--key-id"),
    "workflow": _option(str | None, "Workflow as it was requested."),
    "provider": _option(str | None, "Provider that executes the run."),
    "api": _option(Api | None, "API that the client used."),
    "status": _option(Status | None, "Status; after the end, the outcome."),
    "code": _option(str | None, "Code of the error that the run ended with."),
    "tag": _option(list[str] | None, "A tag of the run. Repeatable: the run has all of them.", metavar="TAG"),
    "meta": _option(list[str] | None, "A value of its metadata. Repeatable.", metavar="NAME=VALUE"),
    "provider_run_id": _option(str | None, "The provider's id of the run."),
    "replay_of": _option(str | None, "The id of the run that it is a replay of."),
    "min_duration": _option(float | None, "It took at least this long.", min=0, **_SECONDS),
    "max_duration": _option(float | None, "It took at most this long.", min=0, **_SECONDS),
    "waiting_for": _option(WaitCause | None, "What the unfinished run waits for."),
    "retrying": _option(bool, "An attempt to start the unfinished run has failed.", "--retrying"),
    "kept": _option(bool | None, "Kept with input and output, or only recorded.", "--kept/--not-kept"),
    "judged": _option(bool | None, "Whether an operator has judged the run.", "--judged/--not-judged"),
}
"""Options by the names of their parameters."""

LIST_CONDITIONS: Mapping[str, Any] = {
    **CONDITIONS,
    "idempotency_key": _option(str | None, "Idempotency-Key of the run; with --client."),
    "id": _option(str | None, "The beginning of the id: run_ and at least 8 digits."),
    "replay_of": _option(str | None, "Id of the run that it replays.", metavar="ID"),
    "created_after": _option(str | None, "Created then or later, such as 2026-11-21T12:00:00Z.", **_TIME),
    "created_before": _option(str | None, "Created before then.", **_TIME),
}
"""Those of a list too."""


def with_conditions(options: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options; it gets them as the parameters of a query, in its argument `query`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            query = _query((name, values.pop(name)) for name in options)
            command(**values, query=query)

        own = [each for each in signature(command, eval_str=True).parameters.values() if each.name != "query"]
        added = [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=option, default=False if name == "retrying" else None)
            for name, option in options.items()
        ]
        positional = [each for each in own if each.kind is not Parameter.KEYWORD_ONLY]
        parameters = [*positional, *added, *(each for each in own if each.kind is Parameter.KEYWORD_ONLY)]
        run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def _query(values: Iterable[tuple[str, Any]]) -> Conditions:
    """Return the parameters of the query. Raises BadParameter."""
    query: dict[str, Any] = {}
    for name, value in values:
        if name == "meta":
            for text in value or ():
                key, separator, wanted = text.partition("=")
                if not separator:
                    raise typer.BadParameter("must be NAME=VALUE", param_hint="--meta")
                query.setdefault(f"meta.{key}", []).append(wanted)
        elif name in {"min_duration", "max_duration"}:
            query[name] = None if value is None else f"{value:.6f}"
        elif value is not False or name != "retrying":
            query[name] = value
    return query
