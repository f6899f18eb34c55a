"""Environment variables and mounted secret files as settings, by names such as `RUNWARD_SERVER__PORT`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.settings.errors import Location, SettingsError, did_you_mean, printable_key
from gateway.settings.model import Settings
from gateway.settings.sources.tree_traversal import nodes
from gateway.settings.types.secret_reference import read_secret_file

PREFIX = "runward_"
DELIMITER = "__"
SECRETS_FOLDER = Path("/run/secrets")
NAMED_SECTIONS = frozenset({"providers", "workflows", "clients", "teams", "budgets"})
"""Sections whose keys are names of the operator's choice."""

NamesBySection = Mapping[str, Iterable[str]]
"""Names in the file, by section."""


@dataclass(slots=True)
class Variables:
    """Texts by setting: `texts` is keyed as pydantic-settings expects, `labels` has the origin of each."""

    texts: dict[str, str] = field(default_factory=dict)
    labels: dict[Location, str] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, text: str, *, label: str, names: NamesBySection) -> None:
        """Add a text if its name is that of a setting; record an error for an unknown or repeated one."""
        section, *rest = name[len(PREFIX) :].split(DELIMITER)
        section = section.lower()
        if section not in Settings.model_fields:
            # Without a delimiter it may be unrelated: Kubernetes sets RUNWARD_PORT for a service called runward.
            if rest:
                self.errors.append((label, "unknown section" + did_you_mean(section, Settings.model_fields)))
            return
        try:
            location = (section, *_parse_path(section, rest, names))
        except ValueError as error:
            self.errors.append((label, str(error)))
            return
        if not text.strip():
            self.errors.append((label, "is empty: remove it, or give it a value"))
            return
        if location in self.labels:
            self.errors.append((label, f"is the same setting as {self.labels[location]}"))
        self.labels[location] = label
        self.texts[_variable_name(location)] = text

    def one_by_one(self) -> Iterator[tuple[Location, Variables]]:
        """Yield each text alone."""
        for location, label in self.labels.items():
            yield (
                location,
                Variables({_variable_name(location): self.texts[_variable_name(location)]}, {location: label}),
            )

    def mapping_labels(self) -> dict[Location, str]:
        """Label the mappings that contain these settings."""
        return {location[:end]: label for location, label in self.labels.items() for end in range(1, len(location))}

    def leaf_labels(self, tree: dict[str, Any]) -> dict[Location, str]:
        """Label the leaves of the tree that these texts describe; a text may be JSON of a whole section."""
        leaf_locations = [loc for loc, leaf in nodes(tree) if leaf]
        return {
            location: self.labels[location[:n]]
            for location in leaf_locations
            for n in range(len(location) + 1)
            if location[:n] in self.labels
        }


def from_environment(environ: Mapping[str, str], names: NamesBySection) -> Variables:
    """Settings among the environment variables; names are not case-sensitive."""
    found = Variables()
    for name in sorted(environ):
        if name.lower().startswith(PREFIX):
            found.add(name, environ[name], label=printable_key(name), names=names)
    return found


def from_secret_files(environ: Mapping[str, str], names: NamesBySection) -> Variables:
    """Settings among the files of RUNWARD_SECRETS_DIR (default /run/secrets).

    A file is included if its name is that of a setting, such as runward_providers__promptlayer__api_key.
    """
    found = Variables()
    for path in secret_files(environ):
        label = f"secret file {printable_key(path.name)}"
        try:
            found.add(path.name, read_secret_file(path), label=label, names=names)
        except ValueError as error:
            found.errors.append((label, str(error)))
    return found


def secret_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Files of RUNWARD_SECRETS_DIR, or of /run/secrets, that may be settings.

    Raises SettingsError if the folder that the variable names cannot be read.
    """
    folder = environ.get("RUNWARD_SECRETS_DIR")
    try:
        paths = sorted((Path(folder) if folder else SECRETS_FOLDER).iterdir())
    except OSError as error:
        if folder:
            raise SettingsError([("RUNWARD_SECRETS_DIR", f"cannot be read ({error.strerror})")]) from None
        return
    yield from (path for path in paths if path.name.lower().startswith(PREFIX) and DELIMITER in path.name)


def _variable_name(location: Location) -> str:
    return PREFIX + DELIMITER.join(map(str, location))


def _parse_path(section: str, rest: list[str], names: NamesBySection) -> Iterator[str]:
    """Yield the keys after the section: a name as spelled in the file, all others in lower case."""
    for depth, key in enumerate(rest):
        if not key:
            raise ValueError("is not the name of a setting")
        yield _match_name(key, names.get(section, ())) if section in NAMED_SECTIONS and depth == 0 else key.lower()


def _match_name(key: str, known: Iterable[str]) -> str:
    """Name in the file that a variable refers to: variables have no `-` and `.`, and usually no lower case."""
    spelled = {name for name in known if re.sub(r"[-.]", "_", name).lower() == re.sub(r"[-.]", "_", key).lower()}
    if key in spelled:
        return key
    if len(spelled) > 1:
        raise ValueError("could mean any of " + ", ".join(sorted(map(printable_key, spelled))))
    return spelled.pop() if spelled else key.lower()
