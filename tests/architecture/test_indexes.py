# SPDX-License-Identifier: Apache-2.0
"""Indexes: none that another of its table begins with, as each row is written into each (PLATFORM "Running it")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.db import connection, models

SERVER = {"audit", "escrow", "kernel", "keys", "operators", "recovery", "tenants"}
MODELS = [model for model in apps.get_models() if model._meta.app_label in SERVER and model._meta.managed]


class Index(NamedTuple):
    """columns: with a minus where it runs downwards. is_whole: over every row. is_unique: it keeps a rule as well."""

    name: str
    columns: tuple[str, ...]
    is_whole: bool
    is_unique: bool


def indexes_of(model: type[models.Model]) -> Iterator[Index]:
    def columns(names: Any) -> tuple[str, ...]:
        fields: Any = model._meta
        return tuple(name[: -len(name.lstrip("-"))] + fields.get_field(name.lstrip("-")).column for name in names)

    field: Any
    for field in model._meta.local_concrete_fields:
        if field.primary_key or field.unique or field.db_index:
            yield Index(field.name, (field.column,), True, field.primary_key or field.unique)
    for index in model._meta.indexes:
        yield Index(index.name, columns(index.fields), index.condition is None, False)
    for rule in model._meta.constraints:
        if isinstance(rule, models.UniqueConstraint):
            yield Index(rule.name, columns(rule.fields), rule.condition is None, True)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_no_index_is_the_beginning_of_another(model: type[models.Model]) -> None:
    found = list(indexes_of(model))
    for one in found:
        if one.is_unique or not one.is_whole:
            continue  # it keeps a rule, or is a short list
        others = [other for other in found if other is not one and other.is_whole]
        covering = [other.name for other in others if other.columns[: len(one.columns)] == one.columns]
        assert covering == [], f"{one.name}: whoever looks by {one.columns} is led by {covering} as well"
        assert one.columns != ("tenant_id",), f"{one.name} leads to all that a tenant has, which nothing asks for"


@pytest.mark.postgres
@pytest.mark.django_db
def test_database_has_the_indexes_of_the_models_and_no_other() -> None:
    for model in MODELS:
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
        lists = {tuple(one["columns"]) for one in found.values() if one["index"] and one["columns"]}
        assert ("tenant_id",) not in lists or any(
            not index.is_whole or index.is_unique for index in indexes_of(model) if index.columns == ("tenant_id",)
        ), model._meta.label
        said = {tuple(column.lstrip("-") for column in index.columns) for index in indexes_of(model)}
        # For a beginning of text PostgreSQL has an index of its own beside a unique one: of the same column.
        assert lists <= said, model._meta.label
