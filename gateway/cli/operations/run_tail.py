"""`runward runs tail`: runs as they are created and as they end.

Each round reads the runs that were created in the last seconds. A run that is not kept has no record before its end,
so now and then all runs of the window are read too. Runs that have not ended are remembered, and looked up by their id
once they are older than the window. Times are those of the gateway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import typer

from gateway.cli.errors import CliError
from gateway.cli.operations.client import MAY_BE_REPEATED, OpsClient, OpsProblem
from gateway.cli.operations.output import NOTHING, print_json
from gateway.cli.operations.run_conditions import Conditions
from gateway.cli.operations.runs import MAX_PAGE, RUNS, activity_of, error_code, one_line, seconds_of
from gateway.clock import SystemClock

if TYPE_CHECKING:
    from providers.contract import JsonValue

_RECENT = 10.0  # seconds: longer than a run takes from its creation to its record, as a rule
_MIN_PAUSE = 5.0  # seconds between two readings of a window with more than a page
_PAUSE_FACTOR = 10.0  # of the time that a reading took: at most a tenth of the time is spent on it
_MAX_LOOK_UPS = 50  # in a round
_MAX_EARLIER = 1_000  # runs of each status that were in progress at the start
_ON_SERVER = frozenset({"client", "workflow", "api", "tag"})  # and metadata: conditions that hold for all of a run

Run = dict[str, "JsonValue"]


@dataclass(slots=True)
class RunTail:
    """Follower of the runs of a gateway. `query`: the conditions. `window`: seconds, as the command describes it."""

    client: OpsClient
    query: Conditions
    window: float
    monotonic: Callable[[], float] = SystemClock.monotonic
    _seen: dict[str, tuple[object, ...]] = field(default_factory=dict)  # the last state by id
    _printed: set[str] = field(default_factory=set)  # ids of unfinished runs
    _unfinished: dict[str, None] = field(default_factory=dict)  # in the order of their next look-up
    _changed: dict[str, Run] = field(default_factory=dict)  # since the last call that ended without an error
    _recent_at: str = ""  # times at which the last readings began
    _window_at: str = ""
    _next_window: float = 0.0  # monotonic time

    def begin(self) -> None:
        """Remember the runs that there are. Raises CliError."""
        self._window_at = self._recent_at = self._read_at(self._request({"limit": 1}))
        for status in ("queued", "running"):
            earlier = self._read({"status": status})
            for run in islice(earlier, _MAX_EARLIER):
                self._note(run)
        for run in self._read({"created_after": _before(self._window_at, self.window)}):
            self._note(run)
        self._changed.clear()

    def poll(self) -> list[Run]:
        """Return the runs that were created or have ended since the last call, in the order of that. Raises CliError.

        After an error, the next call returns what this one has found too, and reads what it has missed.
        """
        reads_window = self.monotonic() >= self._next_window
        since = _before(self._window_at, self.window) if reads_window else _before(self._recent_at, _RECENT)
        started, read_at, present = self.monotonic(), "", set()
        for number, page in enumerate(self._pages({"created_after": since})):
            read_at = read_at or self._read_at(page)
            if number and reads_window:
                self._next_window = self.monotonic() + max(_MIN_PAUSE, _PAUSE_FACTOR * (self.monotonic() - started))
            for run in _runs(page):
                present.add(str(run["id"]))
                self._note(run)
        self._recent_at = read_at
        if reads_window:
            self._look_up(present)
            self._window_at = read_at
            self._seen = {key: state for key, state in self._seen.items() if key in present or key in self._unfinished}
        changed, self._changed = self._changed, {}
        return sorted(filter(self._is_printed, changed.values()), key=_changed_at)

    def _look_up(self, present: set[str]) -> None:
        """Read the unfinished runs that the window does not have, some in each round."""
        for run_id in list(islice((each for each in self._unfinished if each not in present), _MAX_LOOK_UPS)):
            try:
                run = self.client.get(*RUNS, run_id)
            except OpsProblem as problem:
                if problem.code != "not_found":
                    raise
                self._unfinished.pop(run_id)
                self._printed.discard(run_id)
                continue
            run.pop("timeline", None)
            self._unfinished[run_id] = self._unfinished.pop(run_id)
            self._note(run)

    def _note(self, run: Run) -> None:
        """Remember the state of a run, and the run if its state is another one."""
        run_id, ended = str(run["id"]), run.get("finished_at") is not None
        state = (run.get("status"), run.get("finished_at")) if ended else (self._matches(run),)
        if ended:
            self._unfinished.pop(run_id, None)
        else:
            self._unfinished.setdefault(run_id)
        if self._seen.get(run_id) != state:
            self._seen[run_id] = state
            self._changed[run_id] = run

    def _is_printed(self, run: Run) -> bool:
        """Return whether a change is to be printed: that of a run that matches, and the end of one that was printed."""
        run_id = str(run["id"])
        if run.get("finished_at") is None:
            if run_id in self._printed or not self._matches(run):
                return False
            self._printed.add(run_id)
            return True
        before = run_id in self._printed
        self._printed.discard(run_id)
        return before or self._matches(run)

    def _matches(self, run: Run) -> bool:
        """Return whether a run meets the conditions that may change until its end."""
        wanted, seconds, activity = self.query, seconds_of(run), activity_of(run)
        low, high = wanted.get("min_duration"), wanted.get("max_duration")
        found: dict[str, object] = {
            "code": error_code(run),
            "waiting_for": activity.get("waiting_for"),
            "retrying": activity.get("retrying") is True,
            "judged": run.get("judgement") is not None,
            **{name: run.get(name) for name in ("status", "provider", "provider_run_id", "replay_of", "kept")},
        }
        return all(wanted.get(name) in {None, value} for name, value in found.items()) and (
            (low is None and high is None)
            or (seconds is not None and float(str(low or 0)) <= seconds <= float(str(high or "inf")))
        )

    def _read(self, conditions: Mapping[str, str]) -> Iterable[Run]:
        return (run for page in self._pages(conditions) for run in _runs(page))

    def _pages(self, conditions: Mapping[str, str]) -> Iterable[Run]:
        cursor: str | None = None
        while True:
            page = self._request({**conditions, "limit": MAX_PAGE, "cursor": cursor})
            yield page
            following = page.get("next")
            if not isinstance(following, str) or following == cursor:
                return
            cursor = following

    def _request(self, conditions: Mapping[str, str | int | None]) -> Run:
        fixed = {name: each for name, each in self.query.items() if name in _ON_SERVER or name.startswith("meta.")}
        return self.client.get(*RUNS, query={**fixed, **conditions})

    @staticmethod
    def _read_at(page: Run) -> str:
        return str(page.get("read_at"))


def tail_runs(
    client: OpsClient,
    query: Conditions,
    *,
    interval: float,
    window: float,
    as_json: bool,
    wait: Callable[[float], object] = lambda seconds: threading.Event().wait(seconds),
) -> None:
    """Print runs as they are created and as they end, for ever. Raises CliError, except while the gateway is away.

    A gateway that cannot be reached, or answers that it fails, is asked again; a message says so once.
    """
    client.get(*RUNS, query={**query, "limit": 1})  # the gateway says what has no meaning
    tail = RunTail(client, query, window)
    tail.begin()
    is_away = False
    while True:
        wait(interval)
        try:
            changed = tail.poll()
        except CliError as error:
            if isinstance(error, OpsProblem) and error.status < 500 and error.status != 429:
                raise
            if not is_away:
                text = error.format_message().removesuffix(f"; {MAY_BE_REPEATED}")
                typer.echo(f"runward: {text}; it is asked again every {interval:g} s", err=True)
            is_away = True
            continue
        is_away = False
        for run in changed:
            if as_json:
                print_json(run)
            else:
                typer.echo(_line(run))


def _line(run: Mapping[str, JsonValue]) -> str:
    seconds, ended = seconds_of(run), run.get("finished_at") is not None
    cells = (
        run.get("finished_at") if ended else run.get("created_at"),
        "ended" if ended else "new  ",
        run.get("id"),
        str(run.get("status")).ljust(9),
        *(run.get(name) for name in ("client", "workflow", "provider")),
        error_code(run),
        f"{seconds:.3f} s" if ended and seconds is not None else None,
    )
    return one_line("  ".join(NOTHING if cell is None else str(cell) for cell in cells))


def _changed_at(run: Run) -> str:
    return str(run.get("finished_at") or run.get("created_at"))


def _runs(page: Run) -> Iterable[Run]:
    runs = page.get("runs")
    return (run for run in runs if isinstance(run, dict) and "id" in run) if isinstance(runs, list) else ()


def _before(time: str, seconds: float) -> str:
    """Return a time so many seconds earlier. Raises CliError if it is none."""
    try:
        return (datetime.fromisoformat(time) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    except ValueError:
        raise CliError("the gateway sent a time that cannot be read") from None
