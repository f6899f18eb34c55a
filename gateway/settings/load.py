"""Configuration loader. Precedence: overrides, environment, secret files, YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from gateway.settings.errors import Location, SettingsError, format_location
from gateway.settings.model import Settings
from gateway.settings.sources.environment_and_secret_files import (
    NAMED_SECTIONS,
    Variables,
    from_environment,
    from_secret_files,
)
from gateway.settings.sources.secret_locations import SECRET_PATHS, secret_referencer
from gateway.settings.sources.tree_traversal import Transform, find, merge, nodes, rewrite
from gateway.settings.sources.yaml_file import YamlDocument, read_yaml
from gateway.settings.validation_errors import describe_errors

RELATIVE_PATHS: tuple[tuple[str, ...], ...] = (
    ("providers", "*", "ca_file"),
    *(("issuers", "*", name) for name in ("ca_file", "bearer_token_file")),
    *(("store", name) for name in ("ca_file", "client_cert_file", "client_key_file")),
    *(("server", section, name) for section in ("tls", "ops_tls") for name in ("cert", "key", "client_ca")),
)
"""Settings with paths relative to the configuration file."""
_REJECTED_SECRET = SecretStr("whsec_cmVmdXNlZCBhbmQgcmVwb3J0ZWQg")
"""Replaces a literal secret, so that it is reported once; valid as a key and as a callback secret."""
_REJECTED_CREDENTIALS = SecretStr("refused:and-reported")
"""The same for the user and password of a proxy."""
_REJECTED_CONTENT_KEY = SecretStr("cmVmdXNlZCBhbmQgcmVwb3J0ZWQsIG5vIHNlY3JldCE=")
"""The same for a key that encrypts stored content."""


def load(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    *,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Load and check the configuration in `path`, or in the file that RUNWARD_CONFIG names.

    `overrides` has the shape of the file and takes precedence over every source. Raises SettingsError with all errors.
    """
    environ = os.environ if environ is None else environ
    path = config_path(path, environ)
    document = read_yaml(path)
    names = {section: [str(loc[1]) for loc, _ in find(document.tree, (section, "*"))] for section in NAMED_SECTIONS}
    variables = (from_environment(environ, names), from_secret_files(environ, names))
    result = _RawSettings(dict(overrides or {}), variables, document, environ, path.parent).validate()
    # Raised outside of an except block: pydantic's error would stay as its context, with the values.
    if isinstance(result, Settings):
        return result
    raise SettingsError(result)


def config_path(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Path of the configuration file: `path`, or RUNWARD_CONFIG. Raises SettingsError."""
    if path is not None:
        return path
    if not environ.get("RUNWARD_CONFIG"):
        raise SettingsError([("RUNWARD_CONFIG", "is not set; set it, or name the file with --config")])
    return Path(environ["RUNWARD_CONFIG"])


@dataclass(frozen=True, slots=True)
class _RawSettings:
    """Everything that was read, in order of precedence, before validation."""

    overrides: dict[str, Any]
    variables: tuple[Variables, ...]
    document: YamlDocument
    environ: Mapping[str, str]
    folder: Path

    def validate(self) -> Settings | list[tuple[str, str]]:
        """Return the settings, or the errors."""
        errors = [*self._plaintext_secret_errors(), *(c for v in self.variables for c in v.errors)]
        try:
            texts = [self._text_tree(variables) for variables in self.variables]
        except (ValueError, RecursionError):
            return [*errors, *self._json_errors()]
        try:
            settings = Settings.model_validate(merge(self.overrides, *texts, self._yaml_tree()))
        except ValidationError as error:
            return [*errors, *describe_errors(error, self._source_labels())]
        return errors or settings

    def _text_tree(self, variables: Variables) -> dict[str, Any]:
        """Tree of the texts, with secret references. Raises ValueError or RecursionError."""
        if not variables.texts:
            return {}
        from gateway.settings.sources.env_text_parser import parse_texts

        return rewrite(parse_texts(variables.texts), SECRET_PATHS, secret_referencer(self.environ, Path()))

    def _yaml_tree(self) -> dict[str, Any]:
        """Tree of the file without empty sections, with secret references and resolved paths."""
        tree = {section: value for section, value in self.document.tree.items() if value is not None}
        tree = rewrite(tree, RELATIVE_PATHS, lambda path: str(self.folder / path) if isinstance(path, str) else path)
        refer = secret_referencer(self.environ, self.folder)
        for pattern in SECRET_PATHS:
            tree = rewrite(tree, (pattern,), partial(_replace_literal, _rejected_value(pattern), refer))
        return tree

    def _plaintext_secret_errors(self) -> Iterator[tuple[str, str]]:
        for pattern in SECRET_PATHS:
            for location, value in find(self.document.tree, pattern):
                if _is_literal(value):
                    label = f"{self.document.label(location)} {format_location(location)}"
                    yield label, "secrets are not accepted in the YAML: use {env: NAME} or {file: PATH}"

    def _source_labels(self) -> dict[Location, str]:
        """Origin of every setting; later entries take precedence."""
        labels: dict[Location, str] = {}
        for variables in reversed(self.variables):
            labels |= variables.mapping_labels()
        for location, leaf in nodes(self.document.tree):
            # A mapping in the file and elsewhere is labelled by the file: missing keys are added there.
            if not (leaf and location in labels):
                labels[location] = self.document.label(location)
        for variables in reversed(self.variables):
            labels |= variables.leaf_labels(self._text_tree(variables))
        labels |= {loc: "override" for loc, leaf in nodes(self.overrides) if leaf}
        return labels | {(): self.document.name}

    def _json_errors(self) -> Iterator[tuple[str, str]]:
        """Errors of texts that must be JSON (a whole list or section), found by parsing each alone."""
        for variables in self.variables:
            for location, alone in variables.one_by_one():
                try:
                    self._text_tree(alone)
                except (ValueError, RecursionError):
                    yield f"{variables.labels[location]} {format_location(location)}", "must be JSON"


def _rejected_value(pattern: tuple[str, ...]) -> SecretStr:
    """Return what replaces a literal secret at the places of a pattern."""
    if pattern[0] == "content":
        return _REJECTED_CONTENT_KEY
    return _REJECTED_CREDENTIALS if pattern[-1] == "proxy_auth" else _REJECTED_SECRET


def _replace_literal(replacement: SecretStr, refer: Transform, value: object) -> object:
    return replacement if _is_literal(value) else refer(value)


def _is_literal(value: object) -> bool:
    return isinstance(value, str | int | float)
