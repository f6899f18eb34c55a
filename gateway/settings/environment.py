"""Settings from the environment and from mounted secret files: texts with names such as `RUNWARD_SERVER__PORT`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.settings.errors import Location, SettingsError, did_you_mean, printable_key
from gateway.settings.model import Settings
from gateway.settings.secret import read_secret_file
from gateway.settings.tree import nodes

PREFIX = "runward_"
DELIMITER = "__"
SECRETS_FOLDER = Path("/run/secrets")
NAMED_SECTIONS = frozenset({"providers", "workflows", "clients"})
"""The sections whose keys are names of the operator's choice."""

NamesBySection = Mapping[str, Iterable[str]]
"""The names that the file knows, by section."""


@dataclass(slots=True)
class Variables:
    """Texts by setting: `texts` as pydantic-settings wants them named, `labels` says where each of them came from."""

    texts: dict[str, str] = field(default_factory=dict)
    labels: dict[Location, str] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, text: str, *, label: str, names: NamesBySection) -> None:
        """Take one over if its name is that of a setting; complain where it nearly is one, or stands twice."""
        section, *rest = name[len(PREFIX) :].split(DELIMITER)
        section = section.lower()
        if section not in Settings.model_fields:
            # Without a delimiter it may be anybody's: Kubernetes sets RUNWARD_PORT where a service is called runward.
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
        """Take them apart: each alone."""
        for location, label in self.labels.items():
            yield (
                location,
                Variables({_variable_name(location): self.texts[_variable_name(location)]}, {location: label}),
            )

    def mapping_labels(self) -> dict[Location, str]:
        """Label the mappings that these settings are in."""
        return {location[:end]: label for location, label in self.labels.items() for end in range(1, len(location))}

    def leaf_labels(self, tree: dict[str, Any]) -> dict[Location, str]:
        """Label what is in the tree that these texts describe: a text may be JSON, and a whole section."""
        leaf_locations = [loc for loc, leaf in nodes(tree) if leaf]
        return {
            location: self.labels[location[:n]]
            for location in leaf_locations
            for n in range(len(location) + 1)
            if location[:n] in self.labels
        }


def from_environment(environ: Mapping[str, str], names: NamesBySection) -> Variables:
    """Find the settings among the environment's variables, in any case."""
    found = Variables()
    for name in sorted(environ):
        if name.lower().startswith(PREFIX):
            found.add(name, environ[name], label=printable_key(name), names=names)
    return found


def from_secret_files(environ: Mapping[str, str], names: NamesBySection) -> Variables:
    """Find the settings among the files of RUNWARD_SECRETS_DIR (/run/secrets where it is not set).

    A file counts if its name is that of a setting, such as runward_providers__promptlayer__api_key.
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
    """The files of RUNWARD_SECRETS_DIR, or of /run/secrets, that may be settings.

    Raises SettingsError where the folder that the variable names can not be read.
    """
    folder = environ.get("RUNWARD_SECRETS_DIR")
    try:
        paths = sorted((Path(folder) if folder else SECRETS_FOLDER).iterdir())
    except OSError as error:
        if folder:
            raise SettingsError([("RUNWARD_SECRETS_DIR", f"can not be read ({error.strerror})")]) from None
        return
    yield from (path for path in paths if path.name.lower().startswith(PREFIX) and DELIMITER in path.name)


def _variable_name(location: Location) -> str:
    return PREFIX + DELIMITER.join(map(str, location))


def _parse_path(section: str, rest: list[str], names: NamesBySection) -> Iterator[str]:
    """Turn what follows the section into keys: a name as the file spells it, everything else in lower case."""
    for depth, key in enumerate(rest):
        if not key:
            raise ValueError("is not the name of a setting")
        yield _match_name(key, names.get(section, ())) if section in NAMED_SECTIONS and depth == 0 else key.lower()


def _match_name(key: str, known: Iterable[str]) -> str:
    """Find the name that is meant: a shell's variables have no `-`, no `.`, and by custom no small letters."""
    spelled = {name for name in known if re.sub(r"[-.]", "_", name).lower() == re.sub(r"[-.]", "_", key).lower()}
    if key in spelled:
        return key
    if len(spelled) > 1:
        raise ValueError("could mean any of " + ", ".join(sorted(map(printable_key, spelled))))
    return spelled.pop() if spelled else key.lower()
