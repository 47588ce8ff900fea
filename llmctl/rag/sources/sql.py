"""The rows of a SQL query, through SQLAlchemy; the database is only read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from llmctl.environment import variable
from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.rag.fields import Fields
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.base import Source, Unit
from llmctl.schema.parts import Variable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.S)
BATCH = 500
READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET TRANSACTION READ ONLY",
}
"""How each database is told; elsewhere the shape of the query and the rollback have to do."""
PACKAGES = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}
"""Drivers whose package has another name, or a form that needs no compiler."""


class SqlSource(Source):
    """Each row is one document; rows arrive a few hundred at a time."""

    needs: ClassVar[dict[str, str]] = {"sqlalchemy": "rag"}

    url_env: Variable = Field(
        description="Environment variable with the database's SQLAlchemy URL.",
    )
    query: str = Field(description="One SELECT; give it an ORDER BY for a fixed order.")
    fields: Fields = Field(default_factory=Fields, description="Which columns are what.")
    name: str = Field(
        "query", min_length=1, pattern=r"^[^#\s]+$", description="First part of the rows' uris."
    )

    @field_validator("query")
    @classmethod
    def _one_select(cls, query: str) -> str:
        bare = QUOTED.sub(" ", query).strip().rstrip(";").strip()
        if not re.match(r"(?i)\(*\s*(select|with|values|table)\b", bare) or ";" in bare:
            raise ValueError("one SELECT is needed; nothing else is run")
        return query.strip().rstrip(";")

    def units(self, scratch: Path) -> Iterator[Unit]:
        """The rows; a row whose fields are missing is an error of its own."""
        from sqlalchemy import create_engine, exc, text

        try:
            engine = create_engine(self._url(), hide_parameters=True)
        except (exc.ArgumentError, exc.NoSuchModuleError):
            raise InputError(f"source.url_env: {self.url_env} holds no SQLAlchemy URL") from None
        except ModuleNotFoundError as error:
            driver = PACKAGES.get(error.name or "", error.name)
            raise MissingError(
                f"the database of {self.url_env} needs a driver: pip install {driver}"
            ) from None
        number = 0
        try:
            with self._connected(engine) as connection:
                self._only_read(connection)
                rows = connection.execution_options(yield_per=BATCH).execute(text(self.query))
                for number, row in enumerate(rows.mappings(), 1):
                    yield self._unit(dict(row), number)
                connection.rollback()
        except exc.SQLAlchemyError as error:
            said = _said(error)
            if isinstance(error, exc.OperationalError) and number:
                raise LlmctlError(
                    f"{self.label()}: broke off after {number} rows: {said}"
                ) from None
            raise InputError(f"source.query: {self.label()}: {said}") from None
        finally:
            engine.dispose()

    def _connected(self, engine: Engine) -> Connection:
        from sqlalchemy import exc

        try:
            return engine.connect()
        except exc.SQLAlchemyError as error:
            raise LlmctlError(f"{self.label()} cannot be reached: {_said(error)}") from None

    def label(self) -> str:
        """The variable's name; its value holds a password."""
        return f"the database of ${self.url_env}"

    def always(self) -> str:
        """Only the database knows whether its rows have changed."""
        return f"{self.label()} is asked again on every run"

    def _url(self) -> str:
        url = variable("source.url_env", self.url_env, "sqlite:///FILE")
        path = url.partition("sqlite:///")[2].partition("?")[0]
        named = path and not path.startswith((":memory:", "file:"))
        if named and not Path(path).is_file():  # SQLite would make an empty one
            raise InputError(f"source.url_env: {self.url_env}: {path} is not there")
        return url

    def _only_read(self, connection: Connection) -> None:
        from sqlalchemy import text

        statement = READ_ONLY.get(connection.dialect.name)
        if statement:
            connection.execute(text(statement))

    def _unit(self, row: dict[str, Any], number: int) -> Unit:
        plain = {name: _plain(value) for name, value in row.items()}
        fragment, parsed = self.fields.document(plain, number)
        uri = f"{self.name}#{fragment}"
        if isinstance(parsed, Unreadable):
            return Unit(uri, error=parsed)
        told = json.dumps([parsed.title, parsed.text, parsed.meta], default=str, sort_keys=True)
        digest = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()
        return Unit(uri, parsed=parsed, digest=digest)


def _said(error: Exception) -> str:
    """The driver's own words, without SQLAlchemy's links."""
    text = str(getattr(error, "orig", None) or error)
    return text.partition("(Background on")[0].strip().partition("\n")[0][:300]


def _plain(value: Any) -> Any:
    """Bytes that are no text say nothing."""
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return value
