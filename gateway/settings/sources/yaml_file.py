"""YAML reader: bounded in size, without anchors and duplicate keys, with the line of every setting.

Plain scalars follow the core schema of YAML 1.2 (chapter 10.3): `no` is a text, `010` is ten, and every key is a text.
Values other than null, booleans and numbers stay texts; dates are parsed by their fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from gateway.settings.errors import MAX_ERRORS, Location, SettingsError, format_location

YamlValue: TypeAlias = "None | bool | int | float | str | list[YamlValue] | dict[str, YamlValue]"

MAX_BYTES = 1_000_000
"""Bytes."""
MAX_DEPTH = 12
"""Levels of nesting; the configuration uses six."""
MAX_ENTRIES = 20_000
"""Keys and values; parsed and validated in under a second, in two without libyaml."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")
_CONSTANTS: dict[str, None | bool] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class RespelledInteger(int):
    """An integer that is not written as it prints (010, +5): a number, but never the text of a name."""


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """Content of a file, and the line of each setting."""

    name: str
    tree: dict[str, YamlValue]
    lines: dict[Location, int]

    def label(self, location: Location) -> str:
        """Origin of a setting in the file: gateway.yaml:12."""
        return f"{self.name}:{self.lines[location]}"


def read_yaml(path: Path) -> YamlDocument:
    """Read a configuration file.

    Raises SettingsError if the file is missing, too large, not UTF-8, not YAML or empty, or has duplicate keys, anchors
    or tags.
    """
    events = _TreeBuilder(path.name, yaml.parse(_read_text(path), Loader=_LOADER))
    try:
        tree = events.build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        failure = (f"{path.name}:{mark.line + 1}", f"not valid YAML (column {mark.column + 1})") if mark else None
    except yaml.YAMLError:
        failure = (path.name, "not valid YAML: characters that YAML does not allow")
    else:
        if events.errors:
            raise SettingsError(events.errors)
        return YamlDocument(path.name, tree, events.lines)
    raise SettingsError([failure or (path.name, "not valid YAML")])


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError([(path.name, f"cannot be read ({error.strerror})")]) from None
    if len(content) > MAX_BYTES:
        raise SettingsError([(path.name, f"is larger than {MAX_BYTES} bytes")])
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig")
    raise SettingsError(
        [(path.name, "is not UTF-8")]
    )  # outside of the except block: that exception holds the whole file


@dataclass(slots=True)
class _TreeBuilder:
    """Builds the tree from parser events, so that nothing is expanded or constructed unchecked."""

    name: str
    events: Iterator[yaml.Event]
    lines: dict[Location, int] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def build(self) -> dict[str, YamlValue]:
        root: YamlValue = None
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                if self.lines:
                    raise SettingsError([(f"{self.name}:{_line_number(event)}", "a second document is not accepted")])
                root = self._node(event, ())
        if isinstance(root, dict) and root:
            return root
        message = "must be a mapping (key: value)" if root else "is empty"
        raise SettingsError(self.errors or [(self.name, message)])

    def _node(self, event: yaml.Event, location: Location) -> YamlValue:
        self.lines.setdefault(location, _line_number(event))
        if len(self.lines) > MAX_ENTRIES:
            raise SettingsError([(self.name, f"has more than {MAX_ENTRIES} entries")])
        if len(location) > MAX_DEPTH:
            raise SettingsError([(self._format_location(location), f"nested deeper than {MAX_DEPTH} levels")])
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self._add_error(location, "anchors and aliases are not accepted: write it out")
        elif getattr(event, "tag", None) is not None:
            self._add_error(location, "tags are not accepted")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(location)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._node(item, (*location, i)) for i, item in enumerate(self._until(yaml.SequenceEndEvent))]
        return _scalar(event) if isinstance(event, yaml.ScalarEvent) else None

    def _mapping(self, location: Location) -> YamlValue:
        entries: dict[str, YamlValue] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            entry_location = location if key is None else (*location, key)
            line = _line_number(event)
            if key is None:
                self._node(event, (*location, "?"))
                self._add_error(location, "has a key that is not a text", line=line)
            elif key in entries:
                self._add_error(
                    entry_location, f"duplicate key (first on line {self.lines[entry_location]})", line=line
                )
            self.lines.setdefault(entry_location, line)
            value = self._node(next(self.events), entry_location)
            if key is not None:
                entries.setdefault(key, value)
        return entries

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event

    def _add_error(self, location: Location, text: str, *, line: int | None = None) -> None:
        self.errors.append((self._format_location(location, line), text))
        if len(self.errors) >= MAX_ERRORS:
            raise SettingsError(self.errors)

    def _format_location(self, location: Location, line: int | None = None) -> str:
        return f"{self.name}:{line or self.lines[location]} {format_location(location)}".rstrip()


def _line_number(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> YamlValue:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if str(int(text)) == text else RespelledInteger(text)
    return float(text) if _FLOAT.fullmatch(text) else text
