"""Loads the configuration: what the caller says, then the environment, then secret files, then the YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic_settings
from pydantic import SecretStr, ValidationError

from gateway.settings.complaints import Loc, SettingsError, dotted
from gateway.settings.environment import NAMED, Variables, from_environment, from_secret_files
from gateway.settings.model import Settings, reading
from gateway.settings.places import complaints
from gateway.settings.sources import SECRETS, TextSource, TreeSource, referring
from gateway.settings.tree import find, nodes, rewrite
from gateway.settings.yaml_file import Document, read

PATHS = (("providers", "*", "ca_file"),)
"""Where paths are that are relative to the file which names them."""
_REFUSED = SecretStr("refused, and said so")
"""Takes the place of a secret in the file, so that nobody complains about it a second time."""


def load(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    *,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Load and check the configuration in `path`, or in the file that RUNWARD_CONFIG names.

    `overrides` has the shape of the file and wins over every source. Raises SettingsError with all that is wrong.
    """
    environ = os.environ if environ is None else environ
    path = path_of(path, environ)
    document = read(path)
    names = {section: [str(loc[1]) for loc, _ in find(document.tree, (section, "*"))] for section in NAMED}
    variables = (from_environment(environ, names), from_secret_files(environ, names))
    result = _Reading(dict(overrides or {}), variables, document, environ, path.parent).result()
    # Raised here, where no exception is being handled: pydantic's would hang on as its context, with the values.
    if isinstance(result, Settings):
        return result
    raise SettingsError(result)


def path_of(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The configuration's file: `path`, or else the one that RUNWARD_CONFIG names. Raises SettingsError."""
    if path is not None:
        return path
    if not environ.get("RUNWARD_CONFIG"):
        raise SettingsError([("RUNWARD_CONFIG", "is not set, and no other configuration was named")])
    return Path(environ["RUNWARD_CONFIG"])


@dataclass(frozen=True, slots=True)
class _Reading:
    """Everything that was read, the most important first, before anybody knows whether it is any good."""

    overrides: dict[str, Any]
    variables: tuple[Variables, ...]
    document: Document
    environ: Mapping[str, str]
    folder: Path

    def result(self) -> Settings | list[tuple[str, str]]:
        """Make the settings, or say what is wrong."""
        found = [*self._literals(), *(c for v in self.variables for c in v.complaints)]
        try:
            with reading(*map(self._source, self.variables), TreeSource(Settings, self._tree())):
                settings = Settings(**self.overrides)
        except ValidationError as error:
            return [*found, *complaints(error, self._labels())]
        except (pydantic_settings.SettingsError, RecursionError):
            return [*found, *self._not_json()]
        return found or settings

    def _source(self, variables: Variables) -> TextSource:
        return TextSource(Settings, variables.texts, referring(self.environ, Path()))

    def _tree(self) -> dict[str, Any]:
        """Take the file's tree without empty sections, with references for secrets and paths that lead somewhere."""
        tree = {section: value for section, value in self.document.tree.items() if value is not None}
        tree = rewrite(tree, PATHS, lambda path: str(self.folder / path) if isinstance(path, str) else path)
        refer = referring(self.environ, self.folder)
        return rewrite(tree, SECRETS, lambda value: _REFUSED if _is_literal(value) else refer(value))

    def _literals(self) -> Iterator[tuple[str, str]]:
        for way in SECRETS:
            for loc, value in find(self.document.tree, way):
                if _is_literal(value):
                    place = f"{self.document.label(loc)} {dotted(loc)}"
                    yield place, "secrets never stand in the YAML: name them, {env: NAME} or {file: PATH}"

    def _labels(self) -> dict[Loc, str]:
        """Say of every setting where it was written; whatever comes later here is more important."""
        labels: dict[Loc, str] = {}
        for variables in reversed(self.variables):
            labels |= variables.branches()
        for loc, leaf in nodes(self.document.tree):
            # A mapping that is in the file and elsewhere is the file's: what it lacks should be written there.
            if not (leaf and loc in labels):
                labels[loc] = self.document.label(loc)
        for variables in reversed(self.variables):
            labels |= variables.leaves(self._source(variables)())
        labels |= {loc: "override" for loc, leaf in nodes(self.overrides) if leaf}
        return labels | {(): self.document.name}

    def _not_json(self) -> Iterator[tuple[str, str]]:
        """Find the texts that should be JSON, as they set a whole list or section, by trying each alone."""
        for variables in self.variables:
            for loc, alone in variables.each():
                try:
                    self._source(alone)()
                except (pydantic_settings.SettingsError, RecursionError):
                    yield f"{variables.labels[loc]} {dotted(loc)}", "must be JSON"


def _is_literal(value: object) -> bool:
    return isinstance(value, str | int | float)
