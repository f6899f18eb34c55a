"""The claims of the store in memory: which run an Idempotency-Key stands for."""

from __future__ import annotations

from dataclasses import replace

from gateway.store.contract import Answer, Claim, Key, StoredRun


class Claims:
    """By client and text, and by the run that claimed them."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Claim] = {}
        self._names: dict[str, tuple[str, str]] = {}

    def find(self, client: str, text: str) -> Claim | None:
        """See `Store.claim`."""
        return self._claims.get((client, text))

    def add(self, key: Key, run: StoredRun) -> None:
        """Keep a claim for a key that has none."""
        name = (key.client, key.text)
        self._claims[name] = Claim(key, run.id, run.created_at)
        self._names[run.id] = name

    def answer(self, run_id: str, answer: Answer | None) -> None:
        """Keep the answer, where the run claimed a key and has one."""
        name = self._name(run_id)
        if name is not None and answer is not None:
            self._claims[name] = replace(self._claims[name], answer=answer)

    def drop(self, run_id: str) -> None:
        """Free the key of a run, where it has one."""
        name = self._name(run_id)
        if name is not None:
            del self._claims[name]

    def forget_run(self, run_id: str) -> None:
        """The run is gone; its claim stays until it is old."""
        self._names.pop(run_id, None)

    def purge(self, before_at: float) -> int:
        """Forget old claims; returns how many."""
        old = [name for name, claim in self._claims.items() if claim.created_at < before_at]
        for name in old:
            del self._claims[name]
        return len(old)

    def _name(self, run_id: str) -> tuple[str, str] | None:
        """What the run claimed, unless that was forgotten; the key may be another run's by now."""
        name = self._names.get(run_id)
        return name if name in self._claims and self._claims[name].run_id == run_id else None
