# SPDX-License-Identifier: Apache-2.0
"""Django's backend for PostgreSQL, and past the driver's cursors one call of libpq for a statement that is prepared.

Implements the speed goal of claims. In pure Python a cursor's statement takes some 130 µs of CPU, as much as all the
rest of a small request; `PQexecPrepared` takes 20. Only for what `kernel.statements` runs: the model layer keeps its
cursors.
Specifications: https://www.postgresql.org/docs/current/libpq-exec.html, the binary formats by the `…send` functions of
each type in PostgreSQL's src/backend/utils/adt.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from psycopg import OperationalError, errors
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus

_PLACE: Final = re.compile(r"%(?:s|\((\w+)\)s|%)")
# From here PostgreSQL counts microseconds and days.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(2000, 1, 1).toordinal()


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, signed=True)


def _text(octets: bytes) -> str:
    return octets.decode()


# By the type's number in pg_type.dat. A statement that gives another type is a programming error.
_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    16: lambda octets: octets == b"\x01",  # bool
    17: bytes,  # bytea
    20: _number,  # int8
    21: _number,  # int2
    23: _number,  # int4
    25: _text,  # text
    1043: _text,  # varchar
    1082: lambda octets: date.fromordinal(_EPOCH_DAY + _number(octets)),
    1184: lambda octets: _EPOCH + timedelta(microseconds=_number(octets)),  # timestamptz
    2950: lambda octets: UUID(bytes=octets),
}


@dataclass(slots=True)
class _Prepared:
    name: bytes
    names: tuple[str, ...]  # of its parameters, when they have any
    readers: tuple[Callable[[bytes], Any], ...] | None = None


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection, with the statements that are prepared in it: each is planned once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepared: dict[str, _Prepared] = {}
        self._made = 0

    def get_new_connection(self, conn_params: Any) -> Any:
        self._prepared.clear()
        return super().get_new_connection(conn_params)

    def is_usable(self) -> bool:
        """Tell whether the connection works, without a word to the server when nothing speaks against it.

        Of a connection that was ended the socket can be read; so it can when the server has said something by itself.
        """
        if self.connection is None or self.connection.pgconn.status != ConnStatus.OK:
            return False
        heard = select.poll()
        heard.register(self.connection.pgconn.socket, select.POLLIN)
        return bool(super().is_usable()) if heard.poll(0) else True

    def run(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. sql: with %s or %(name)s for the parameters, as in a cursor.

        Their types are those that PostgreSQL infers: cast where it cannot. Raises Django's database errors.
        """
        self.close_if_health_check_failed()
        self.ensure_connection()
        self.validate_thread_sharing()
        self.validate_no_broken_transaction()
        with self.wrap_database_errors:
            pg = self.connection.pgconn
            if not self.connection.autocommit and pg.transaction_status == TransactionStatus.IDLE:
                self._require(pg.exec_(b"BEGIN"))
            statement = self._prepared.get(sql) or self._prepare(sql)
            if statement.names:
                assert isinstance(parameters, Mapping)
                parameters = [parameters[name] for name in statement.names]
            values = [_octets(value) for value in parameters]
            formats = [Format.BINARY if isinstance(value, bytes) else Format.TEXT for value in parameters]
            result = pg.exec_prepared(statement.name, values, formats, Format.BINARY)
            self._require(result)
            readers = statement.readers
            if readers is None:
                readers = statement.readers = tuple(_READERS[result.ftype(at)] for at in range(result.nfields))
            cell = result.get_value
            return [
                tuple(
                    None if (octets := cell(row, column)) is None else read(octets)
                    for column, read in enumerate(readers)
                )
                for row in range(result.ntuples)
            ]

    def _prepare(self, sql: str) -> _Prepared:
        names: list[str] = []

        def place(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return "%"
            name = found[1] or ""
            if not name or name not in names:
                names.append(name)
            return f"${names.index(name) + 1 if name else len(names)}"

        text = _PLACE.sub(place, sql)
        self._made += 1
        statement = _Prepared(f"holdfast_{self._made}".encode(), tuple(names) if any(names) else ())
        self._require(self.connection.pgconn.prepare(statement.name, text.encode()))
        self._prepared[sql] = statement
        return statement

    def _require(self, result: Any) -> None:
        if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            return
        if self.connection.pgconn.status != ConnStatus.OK:
            raise OperationalError("the connection is lost")
        error = errors.error_from_result(result)
        if isinstance(error, errors.InvalidSqlStatementName):
            self._prepared.clear()  # somebody dropped them: the next time they are made anew
        raise error

    def _commit(self) -> None:
        if self.connection is None:
            return
        with debug_transaction(self, "COMMIT"), self.wrap_database_errors:
            pg = self.connection.pgconn
            if pg.transaction_status == TransactionStatus.INTRANS:
                self._require(pg.exec_(b"COMMIT"))
            else:
                self.connection.commit()


def _octets(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, list):
        # Of ids and numbers alone: nothing in them has to be quoted.
        return f"{{{','.join(str(one) for one in value)}}}".encode()
    text = str(value)
    if "\0" in text:
        raise ValueError("text for the database holds a NUL")
    return text.encode()
