"""What workflows are called in the providers' own APIs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

Pin: TypeAlias = tuple[str | None, int | None]
"""A label, or a version, or neither."""
NO_PIN: Pin = (None, None)
_FACES = ("promptlayer", "prompt_studio")


class Named(Protocol):
    """What has names."""

    @property
    def alias(self) -> str:
        """What the gateway's own clients call it."""

    @property
    def name(self) -> str:
        """What the provider calls it."""

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """What it answers to in each face, where the configuration says so."""


W = TypeVar("W", bound=Named)


class Names(Generic[W]):
    """Finds workflows by the names that clients of the providers' own APIs use. Several may share one.

    `numbers` are by alias: PromptLayer's API has workflows by number, too.
    """

    def __init__(self, workflows: Iterable[W]) -> None:
        self._found: dict[str, dict[str, list[W]]] = {face: {} for face in _FACES}
        self.numbers: dict[str, int] = {}
        ordered = sorted(workflows, key=lambda workflow: workflow.alias)
        for workflow in ordered:
            for face, found in self._found.items():
                for name in workflow.names.get(face, (workflow.name,)):
                    found.setdefault(name, []).append(workflow)
        for workflow in ordered:
            self._number(workflow)

    def _number(self, workflow: W) -> None:
        number = int.from_bytes(hashlib.sha256(workflow.alias.encode()).digest()[:4]) >> 1
        while number in self.numbers.values() or not number:
            number += 1
        self.numbers[workflow.alias] = number
        self._found["promptlayer"].setdefault(str(number), [workflow])

    def find(self, face: str, name: str) -> Sequence[W]:
        """The workflows that have this name in `face`; there may be none."""
        return self._found[face].get(name, ())
