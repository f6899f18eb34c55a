"""The settings in use as a list of values, without secrets: for operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from gateway.clock import format_rfc3339
from gateway.settings.model import Settings
from gateway.settings.types.units import RateSpec

Scalar: TypeAlias = str | int | float | bool | None

_HIDDEN_FIELDS = frozenset({"hash", "options"})
"""Fields that are no secrets by their type, and may contain or identify one."""
_HOST_ONLY = frozenset({"webhook"})
"""URLs whose path or query may be a secret."""
_UNITS = {1.0: "s", 60.0: "m", 3600.0: "h"}


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """A value in use. `path`: names, with dots. `hidden`: it is set, and not told. `configured`: not the default."""

    path: str
    value: Scalar | list[Scalar]
    configured: bool
    hidden: bool = False


def effective_values(settings: Settings) -> Iterator[EffectiveValue]:
    """Yield every value in the order of the model."""
    yield from _model(settings, "", configured=False)


def _model(model: BaseModel, path: str, *, configured: bool) -> Iterator[EffectiveValue]:
    for name in type(model).model_fields:
        place = f"{path}.{name}" if path else name
        yield from _value(getattr(model, name), place, name, configured=configured or name in model.model_fields_set)


def _value(value: object, path: str, name: str, *, configured: bool) -> Iterator[EffectiveValue]:
    if isinstance(value, BaseModel):
        yield from _model(value, path, configured=False)
    elif name in _HIDDEN_FIELDS or isinstance(value, SecretStr):
        if value:
            yield EffectiveValue(path, None, configured, hidden=True)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _value(each, f"{path}.{key}", str(key), configured=True)
    elif isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "_fields"):
        yield from _list(list(value), path, configured=configured)
    else:
        yield EffectiveValue(path, _host(value) if name in _HOST_ONLY else _scalar(value), configured)


def _list(values: list[object], path: str, *, configured: bool) -> Iterator[EffectiveValue]:
    if any(isinstance(each, (BaseModel, SecretStr, Mapping)) for each in values):
        for index, each in enumerate(values):
            yield from _value(each, f"{path}[{index}]", "", configured=configured)
    else:
        yield EffectiveValue(path, [_scalar(each) for each in values], configured)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, RateSpec):
        return f"{value.count:g}/{_UNITS.get(value.per) or f'{value.per:g}s'}"
    return format_rfc3339(value) if isinstance(value, datetime) else str(value)


def _host(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    parts = urlsplit(value)
    return f"{parts.scheme}://{parts.hostname or ''}/…"
