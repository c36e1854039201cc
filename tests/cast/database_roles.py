# SPDX-License-Identifier: Apache-2.0
"""The database users of the four processes, on the PostgreSQL server of the tests, for the length of a test.

The tests share a server and its users, so each maker takes a prefix of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection, transaction
from psycopg import sql

from config.database_roles import PROCESSES, role_name, statements


@contextmanager
def database_users() -> Iterator[str]:
    """Make the users, granted what the table says in the test's own database; yield their prefix, and drop them."""
    prefix = f"t{secrets.token_hex(6)}_"
    with transaction.atomic(), connection.cursor() as cursor:
        for process in PROCESSES:
            cursor.execute(f"CREATE ROLE {role_name(process, prefix=prefix)} LOGIN")
        for statement in statements(connection.settings_dict["NAME"], prefix=prefix):
            cursor.execute(statement)
    try:
        yield prefix
    finally:
        with transaction.atomic(), connection.cursor() as cursor:
            for process in PROCESSES:
                cursor.execute(f"DROP OWNED BY {role_name(process, prefix=prefix)}")
                cursor.execute(f"DROP ROLE {role_name(process, prefix=prefix)}")


@contextmanager
def connected_as(process: str, *, prefix: str) -> Iterator[psycopg.Connection]:
    """Connect to the test's database as one process's user, each statement a transaction of its own."""
    given = connection.settings_dict
    with psycopg.connect(
        host=given["HOST"],
        port=given["PORT"],
        dbname=given["NAME"],
        user=role_name(process, prefix=prefix),
        autocommit=True,
    ) as made:
        yield made


@contextmanager
def acting_as(process: str, *, prefix: str) -> Iterator[None]:
    """Let this process's own connection be one of the users, as if it had signed in so."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role_name(process, prefix=prefix)}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


@contextmanager
def fresh_database(owner: str) -> Iterator[str]:
    """Make an empty database that a plain user owns, and yield its address for that user; both are gone afterwards."""
    server = os.environ["HOLDFAST_TEST_POSTGRES"]
    name = sql.Identifier(owner)
    with psycopg.connect(server, autocommit=True) as administrator:
        administrator.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        administrator.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
    try:
        yield as_user(server, owner, database=owner)
    finally:
        with psycopg.connect(server, autocommit=True) as administrator:
            administrator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
            administrator.execute(sql.SQL("DROP ROLE {}").format(name))


def as_user(server: str, user: str, *, database: str) -> str:
    """Return the address of a database on a server, for one user."""
    place = server.partition("@")[2].partition("/")[0]
    return f"postgres://{user}@{place}/{database}"
