"""Secrets by reference: `env:NAME`, `file:PATH`, `credential:NAME` (systemd's LoadCredential).

A `Secret` holds the reference only; `reveal()` reads the value at the moment of use, so that commands which need
no secret (`status`, `history`, `why`) run without it, and nothing that is printed, logged or stored can hold it.
"""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from syncd.errors import ConfigError

ITSELF = re.compile(
    r"flz_sk_\w{20}|pat-[a-z0-9]+-[0-9a-f-]{20,}|eyJ[\w-]{8,}\."
)  # keys, and no names
SCHEMES = ("env", "file", "credential")
SECRET_BYTES_MAX = 64 * 1024  # a key or a password; anything larger is the wrong file


class Secret:
    """A reference to a secret. repr() and str() show the reference, never the value."""

    __slots__ = ("folder", "reference")

    def __init__(self, reference: str, *, folder: Path | None = None) -> None:
        self.reference = reference
        self.folder = folder or Path()

    def __repr__(self) -> str:
        return f"Secret({self.reference})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def reveal(self) -> str:
        """The secret, without surrounding white space. Raises ConfigError when it cannot be read or is empty."""
        scheme, _, name = self.reference.partition(":")
        if scheme == "env":
            value = os.environ.get(name, "")
            hint = f"Set the environment variable {name}"
        else:
            path = self._path(scheme, name)
            value = _read(path, self.reference)
            hint = f"Write the secret into {path}"
        if not value.strip():
            raise ConfigError(f"The secret {self.reference} is missing or empty", hint=hint)
        return value.strip()

    @property
    def is_file(self) -> bool:
        """Whether it is a `file:` reference: the only kind that can be written."""
        return self.reference.startswith("file:")

    def exists(self) -> bool:
        """Whether the file of a `file:` reference is there, whatever it holds."""
        return self._path("file", self.reference.partition(":")[2]).exists()

    def replace(self, value: str) -> None:
        """Write another value into the file of a `file:` reference, at once or not at all; for its owner only.

        For refresh tokens, which some vendors replace at each use, and for the secret of a webhook. Raises ConfigError.
        """
        path = self._path("file", self.reference.partition(":")[2])
        part = path.with_name(f".{path.name}.new")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123  of a handle
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise ConfigError(
                f"The new value of the secret {self.reference} cannot be written",
                why=f"{path}: {error.strerror}",
                hint="Make the file and its folder writable for the user that runs syncd",
            ) from None

    def _path(self, scheme: str, name: str) -> Path:
        if scheme == "file":
            return self.folder / Path(name).expanduser()
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise ConfigError(
                f"The secret {self.reference} cannot be read: $CREDENTIALS_DIRECTORY is not set",
                hint=f"Run under systemd with LoadCredential={name}:..., or use env: or file:",
            )
        return Path(folder) / name

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Accept a reference; refuse a secret written into the configuration itself, without repeating it."""
        return core_schema.with_info_plain_validator_function(
            cls._parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _parse(cls, value: object, info: ValidationInfo) -> "Secret":
        if isinstance(value, Secret):
            return value
        if (
            isinstance(value, str)
            and value.partition(":")[0] in SCHEMES
            and value.partition(":")[2]
        ):
            if ITSELF.search(value):
                raise PydanticCustomError(
                    "secret_reference",
                    "the name of a secret is expected behind env:, file: or credential:, not the secret itself",
                )
            folder = (info.context or {}).get("folder")
            return cls(value, folder=folder)
        raise PydanticCustomError(
            "secret_reference",
            "a secret is written as a reference: env:NAME, file:PATH or credential:NAME",
        )


def _read(path: Path, reference: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(
            f"The secret {reference} cannot be read",
            why=f"{path}: {getattr(error, 'strerror', None) or error}",
            hint="Correct the path, or make the file readable for the user that runs syncd",
        ) from None
    if len(content) > SECRET_BYTES_MAX:
        raise ConfigError(
            f"The secret {reference} is larger than {SECRET_BYTES_MAX} bytes",
            hint="This is not a file that holds one key or password: correct the path",
        )
    return content.decode("utf-8", "replace")
