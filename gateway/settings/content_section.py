"""Section `content`: how the payloads of stored runs are kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.settings.errors import raise_validation_error
from gateway.settings.sections import Section
from gateway.settings.types.secret_reference import ContentKey


class EncryptionSettings(Section):
    """Encryption of inputs, results, callbacks and stored responses with AES-256-GCM. Needs runward[encryption]."""

    key: ContentKey | None = None
    """Key: 32 random bytes in base64, as `openssl rand -base64 32` makes them."""
    keys: Annotated[tuple[ContentKey, ...], Field(max_length=20)] = ()
    """Keys, instead of `key`: the first encrypts, each of them decrypts; several during a rotation."""

    @property
    def all_keys(self) -> tuple[ContentKey, ...]:
        """All keys, of which the first encrypts; empty without encryption."""
        return self.keys if self.key is None else (self.key,)

    @model_validator(mode="after")
    def _check_one_form(self) -> Self:
        if self.key is not None and self.keys:
            raise_validation_error([(("keys",), "key is given too: give one of them")])
        values = [key.get_secret_value() for key in self.keys]
        repeated = [index for index, value in enumerate(values) if value in values[:index]]
        raise_validation_error([(("keys", index), "is the same key as one before") for index in repeated])
        return self


class ContentSettings(Section):
    """Payloads of stored runs."""

    encrypt: EncryptionSettings = EncryptionSettings()
    """Encryption at rest; without a key payloads are stored in clear."""
