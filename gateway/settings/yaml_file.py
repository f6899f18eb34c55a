"""Reads the one YAML file: bounded, without anchors or doubled keys, and knowing the line of everything.

Plain scalars mean what YAML 1.2's core schema says (chapter 10.3): `no` is a text and `010` is ten, and every key is a
text. Values other than null, booleans and numbers stay texts; whoever wants a date reads one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from gateway.settings.complaints import MOST, Loc, SettingsError, dotted

Tree: TypeAlias = "None | bool | int | float | str | list[Tree] | dict[str, Tree]"

LARGEST = 1_000_000
"""Bytes."""
DEEPEST = 12
"""Levels of nesting; the configuration has six."""
MOST_ENTRIES = 20_000
"""Keys and values; so many are read, and complained about, in well under a second, in two without libyaml."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")
_WORDS: dict[str, None | bool] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and the line of each setting in it."""

    name: str
    tree: dict[str, Tree]
    lines: dict[Loc, int]

    def label(self, loc: Loc) -> str:
        """Say where a setting that is in the file stands: gateway.yaml:12."""
        return f"{self.name}:{self.lines[loc]}"


def read(path: Path) -> Document:
    """Read a configuration file.

    Raises SettingsError where there is nothing to validate, or nobody could be sure what: missing, too large, not
    UTF-8, not YAML, empty, doubled keys, anchors, tags.
    """
    events = _Events(path.name, yaml.parse(_text(path), Loader=_LOADER))
    try:
        tree = events.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        failure = (f"{path.name}:{mark.line + 1}", f"not valid YAML (column {mark.column + 1})") if mark else None
    except yaml.YAMLError:
        failure = (path.name, "not valid YAML: it has characters that YAML does not allow")
    else:
        if events.complaints:
            raise SettingsError(events.complaints)
        return Document(path.name, tree, events.lines)
    raise SettingsError([failure or (path.name, "not valid YAML")])


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError([(path.name, f"can not be read ({error.strerror})")]) from None
    if len(content) > LARGEST:
        raise SettingsError([(path.name, f"is larger than {LARGEST} bytes")])
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig")
    raise SettingsError([(path.name, "is not UTF-8")])  # out here, as that exception holds the whole file


@dataclass(slots=True)
class _Events:
    """Builds the tree from the parser's events, so that nothing is expanded or constructed that was not looked at."""

    name: str
    events: Iterator[yaml.Event]
    lines: dict[Loc, int] = field(default_factory=dict)
    complaints: list[tuple[str, str]] = field(default_factory=list)

    def document(self) -> dict[str, Tree]:
        root: Tree = None
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                if self.lines:
                    raise SettingsError([(f"{self.name}:{_line(event)}", "a second document is not accepted")])
                root = self._node(event, ())
        if isinstance(root, dict) and root:
            return root
        what = "must be a mapping (key: value)" if root else "is empty"
        raise SettingsError(self.complaints or [(self.name, what)])

    def _node(self, event: yaml.Event, loc: Loc) -> Tree:
        self.lines.setdefault(loc, _line(event))
        if len(self.lines) > MOST_ENTRIES:
            raise SettingsError([(self.name, f"has more than {MOST_ENTRIES} entries")])
        if len(loc) > DEEPEST:
            raise SettingsError([(self._place(loc), f"nested deeper than {DEEPEST} levels")])
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._complain(loc, "anchors and aliases are not accepted: write it out")
        elif getattr(event, "tag", None) is not None:
            self._complain(loc, "tags are not accepted")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loc)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._node(item, (*loc, i)) for i, item in enumerate(self._until(yaml.SequenceEndEvent))]
        return _scalar(event) if isinstance(event, yaml.ScalarEvent) else None

    def _mapping(self, loc: Loc) -> Tree:
        entries: dict[str, Tree] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            place = loc if key is None else (*loc, key)
            line = _line(event)
            if key is None:
                self._node(event, (*loc, "?"))
                self._complain(loc, "has a key that is not a text", line=line)
            elif key in entries:
                self._complain(place, f"duplicate key (first on line {self.lines[place]})", line=line)
            self.lines.setdefault(place, line)
            value = self._node(next(self.events), place)
            if key is not None:
                entries.setdefault(key, value)
        return entries

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event

    def _complain(self, loc: Loc, text: str, *, line: int | None = None) -> None:
        self.complaints.append((self._place(loc, line), text))
        if len(self.complaints) >= MOST:
            raise SettingsError(self.complaints)

    def _place(self, loc: Loc, line: int | None = None) -> str:
        return f"{self.name}:{line or self.lines[loc]} {dotted(loc)}".rstrip()


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Tree:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
