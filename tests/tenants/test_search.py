# SPDX-License-Identifier: Apache-2.0
"""People are found alike on SQLite and PostgreSQL, however name and search are written (FAULTS T12)."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import connection

from kernel.scope import tenant_scope
from tenants import access
from tenants.models import Person
from tenants.names import search_key
from tests.cast.tenants import Cast, make_person

pytestmark = pytest.mark.django_db


def named(world: Cast, **names: str) -> None:
    with tenant_scope(world.acme.pk):
        for key, name in names.items():
            person = make_person(key, "member")
            person.name = name
            person.save(update_fields=["name"])


def found(world: Cast, text: str) -> list[str]:
    with tenant_scope(world.acme.pk):
        people, total = access.people_found(text, limit=50)
    assert total == len(people)
    return [person.name for person in people]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Élodie Brontë", "elodie bronte"),
        ("Elodie Bronte", "ÉLODIE BRONTË"),
        ("E\u0301lodie", "élodie"),
        ("Jürgen Groß", "GROSS"),
        ("Juergen Gross", "groß"),
        ("Анна Ёлкина", "АННА ЕЛК"),
        ("İsmail Işık", "ismail isik"),
        ("Ismail Isik", "İSMAİL IŞIK"),
        ("Σίσυφος", "ΣΙΣΥΦΟΣ"),
        ("\ufb01ona", "FIONA"),
        ("Per_cent %", "_cent %"),
    ],
)
def test_search_finds_a_name_in_any_case_and_with_any_accents(name: str, typed: str, world: Cast) -> None:
    named(world, somebody=name)
    assert name in found(world, typed)


@pytest.mark.postgres
@pytest.mark.parametrize("typed", ["%", "_", "\u0301", "nobody", "x%y"])
def test_search_finds_nobody_by_a_sign_that_stands_for_any(typed: str, world: Cast) -> None:
    named(world, somebody="Plain Name")
    assert found(world, typed) == []


@pytest.mark.postgres
def test_people_are_sorted_as_they_are_searched(world: Cast) -> None:
    named(world, one="zoe", two="Ébru", three="eben", four="Zacharias")
    names = [name for name in found(world, "") if name in ("zoe", "Ébru", "eben", "Zacharias")]
    assert names == ["eben", "Ébru", "Zacharias", "zoe"]


def test_rename_changes_what_a_person_is_found_by(world: Cast) -> None:
    named(world, somebody="Before")
    with tenant_scope(world.acme.pk):
        person = Person.objects.get(name="Before")
        person.name, person.email = "After", "other@acme.test"
        person.save(update_fields=["name", "email"])
    assert found(world, "before") == []
    assert found(world, "AFTER") == found(world, "other@") == ["After"]


def test_people_of_before_are_folded_by_the_migration(world: Cast) -> None:
    named(world, somebody="Ähnlich")
    Person.unscoped.update(search="")
    assert found(world, "ähnlich") == []
    import_module("tenants.migrations.0013_search").fill(apps, SimpleNamespace(connection=connection))
    assert found(world, "ahnlich") == ["Ähnlich"]
    assert all(row.search == search_key(row.name, row.email) for row in Person.unscoped.all())
