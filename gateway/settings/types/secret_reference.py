"""Secrets: resolution of references, and rejection of placeholders and malformed values."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, SecretStr, WithJsonSchema

MIN_LENGTH = 8
CONTENT_KEY_BYTES = 32
_MAX_FILE_BYTES = 64 * 1024
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,199}$"
_SHAPE_ERROR = "must be {env: NAME} or {file: PATH}"
_QUOTES = "\"'`"
_WEBHOOK_SECRET = re.compile(r"whsec_((?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)")
_PLACEHOLDERS = re.compile(
    r"change[-_ ]?me.*|replace[-_ ]?(me|this).*|placeholder.*|example.*|insert[-_ ].*|put[-_ ].*|todo.*"
    r"|(my[-_]?|the[-_]?)?(secret|password|api[-_]?key)|undefined|dummy.*"
    r"|your.*|.*[-_]your[-_ ].*|xxx.*|.*x{6,}.*|(?P<one>.)(?P=one)*"
    r"|<.*>|\$\{.*\}|\{\{.*\}\}|%.*%|\[.*\]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """`{env: NAME}` or `{file: PATH}` with its context; resolved only if no other source overrides it."""

    written: Mapping[str, object]
    environ: Mapping[str, str] = field(repr=False)
    folder: Path

    def resolve(self) -> str:
        """Read the secret. Raises ValueError if it is missing or the reference is malformed."""
        match list(self.written.items()):
            case [("env", str(variable))] if re.fullmatch(_VARIABLE, variable):
                return self._variable(variable)
            case [("file", str(path))] if path and "\0" not in path:
                return read_secret_file(self.folder / path)
            case [(_, _), (_, _)] if set(self.written) == {"env", "file"}:
                raise ValueError("has both env and file: give one")
        raise ValueError(_SHAPE_ERROR)

    @property
    def file(self) -> Path | None:
        """The file of the secret, if the reference names one."""
        path = self.written.get("file")
        return self.folder / path if isinstance(path, str) and "\0" not in path else None

    def _variable(self, variable: str) -> str:
        # The text may be the secret itself by mistake; only a conventional variable name is shown.
        shown = f"variable {variable}" if re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", variable) else "variable it names"
        if variable not in self.environ:
            raise ValueError(f"the environment {shown} is not set")
        return self.environ[variable]


class FileSecret(SecretStr):
    """A secret of a file, with its path: the file can be read again after a rotation."""

    def __init__(self, value: str, path: Path) -> None:
        super().__init__(value)
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self.get_secret_value() == other.get_secret_value()

    def __hash__(self) -> int:
        return super().__hash__()


def reread_secret(secret: SecretStr) -> SecretStr:
    """Return the present contents of the file of a secret; the same secret if it has no file, or an invalid one."""
    if not isinstance(secret, FileSecret):
        return secret
    try:
        value = read_secret_file(secret.path)
    except ValueError:
        return secret
    return secret if _secret_error(value) else FileSecret(value, secret.path)


def read_secret_file(path: Path) -> str:
    """Read a secret file without trailing line ends. Raises ValueError if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the secret's file cannot be read ({error.strerror})") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("the secret's file is too large")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the secret's file is not text") from None


def parse_secret(value: object) -> SecretStr:
    """Resolve and check a secret. Raises ValueError if it is missing, malformed, a placeholder or too short."""
    path: Path | None = None
    if isinstance(value, SecretReference):
        path, value = value.file, value.resolve()
    elif isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise ValueError(_SHAPE_ERROR)  # noqa: TRY004 - pydantic turns a TypeError into a crash
    error = _secret_error(value)
    if error:
        raise ValueError(error)
    return SecretStr(value) if path is None else FileSecret(value, path)


def parse_webhook_secret(value: object) -> SecretStr:
    """Resolve and check a signing secret of Standard Webhooks: "whsec_" and padded base64, as its libraries read it.

    Raises ValueError as `parse_secret` does, or if the secret has another form, which libraries would read differently.
    """
    secret = parse_secret(value)
    text = secret.get_secret_value()
    if text.startswith("v1,"):
        raise ValueError("the secret must begin with whsec_: remove what stands before it")
    if not _WEBHOOK_SECRET.fullmatch(text):
        raise ValueError('the secret must be whsec_ and base64, as "whsec_$(openssl rand -base64 32)" makes it')
    return secret


def parse_proxy_credentials(value: object) -> SecretStr:
    """Resolve and check the user and password of a proxy. Raises ValueError as `parse_secret` does."""
    secret = parse_secret(value)
    if not secret.get_secret_value().partition(":")[0] or ":" not in secret.get_secret_value():
        raise ValueError("the secret must be user:password")
    return secret


def parse_content_key(value: object) -> SecretStr:
    """Resolve and check a key that encrypts stored content. Raises ValueError as `parse_secret` does."""
    secret = parse_secret(value)
    if len(decode_content_key(secret)) != CONTENT_KEY_BYTES:
        raise ValueError("the key must be 32 bytes in base64, as `openssl rand -base64 32` makes them")
    return secret


def decode_content_key(secret: SecretStr) -> bytes:
    """Return the bytes of a key in base64; none if the text is not padded base64."""
    try:
        return base64.b64decode(secret.get_secret_value(), validate=True)
    except binascii.Error:
        return b""


def _secret_error(text: str) -> str | None:
    """Return what is wrong with a secret; the first complaint that applies."""
    complaints = {
        "the secret is empty": not text.strip(),
        "the secret is a placeholder": _PLACEHOLDERS.fullmatch(text.strip()) is not None,
        "the secret is in quotes: remove them where it is defined": text[:1] in _QUOTES or text[-1:] in _QUOTES,
        "the secret begins with Bearer: give the key alone": text[:7].lower() == "bearer ",
        f"the secret is shorter than {MIN_LENGTH} characters": len(text) < MIN_LENGTH,
        "the secret has characters that cannot be sent in a header, or spaces around it": (
            not text.isascii() or not text.isprintable() or text != text.strip()
        ),
    }
    return next((complaint for complaint, applies in complaints.items() if applies), None)


_REFERENCE_SCHEMA = WithJsonSchema(
    {
        "type": "object",
        "properties": {"env": {"type": "string", "pattern": _VARIABLE}, "file": {"type": "string"}},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
)
Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(parse_secret), _REFERENCE_SCHEMA]
"""Secret: a reference in the YAML; the value itself in other sources."""
ProxyCredentials: TypeAlias = Annotated[SecretStr, BeforeValidator(parse_proxy_credentials), _REFERENCE_SCHEMA]
"""User and password of a proxy, given like `Secret`."""
WebhookSecret: TypeAlias = Annotated[SecretStr, BeforeValidator(parse_webhook_secret), _REFERENCE_SCHEMA]
"""Signing secret of callbacks, given like `Secret`."""
ContentKey: TypeAlias = Annotated[SecretStr, BeforeValidator(parse_content_key), _REFERENCE_SCHEMA]
"""Key that encrypts stored content, given like `Secret`."""
