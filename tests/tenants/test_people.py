# SPDX-License-Identifier: Apache-2.0
"""Tenants and people: names as they are compared, states, roles, roots, and the entries that each act leaves."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Entry
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor, system_actor
from kernel.errors import Conflict, NotFound, Unavailable
from kernel.scope import UnscopedQuery, tenant_scope
from tenants import access, administration, names, services
from tenants.errors import LastOfficer, NameRefused, NameTaken, PasswordRefused, RootPinned
from tenants.models import Credential, Person, Tenant
from tenants.roles import Role
from tenants.states import CREDENTIAL, PERSON, CredentialState, PersonState
from tests.cast.tenants import Cast, make_device, make_person

ACTOR = system_actor(None, "ceremony")


@pytest.mark.parametrize(
    "text",
    ["", "ab", "root", "admin", "..", ".", "a/b", "a b", "-acme", "acme-", "ac--me", "1acme", "аcme", "acme\u200b",
     "acme\n.", "a" * 41, "acme.", "a%2fb", "ACME\u0000", "ｒoot"],
)  # fmt: skip
def test_slug_refuses(text: str) -> None:
    with pytest.raises(NameRefused):
        names.slug(text)


@given(st.text(max_size=60))
def test_slug_is_plain_ascii_or_refused(text: str) -> None:
    try:
        slug = names.slug(text)
    except NameRefused:
        return
    assert slug.isascii()
    assert slug == names.slug(slug)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 3 <= len(slug) <= 40
    assert slug not in names.RESERVED_SLUGS


@given(st.text(max_size=60))
def test_email_key_is_the_same_for_every_spelling(text: str) -> None:
    try:
        key = names.email_key(text)
    except NameRefused:
        return
    assert names.email_key(key) == key
    assert names.email_key(f" {text}\t") == key


@pytest.mark.parametrize("text", ["", "alice", "a@b@c", "alice@", "@acme.test", "a b@acme.test", "a\u202e@acme.test"])
def test_email_key_refuses(text: str) -> None:
    with pytest.raises(NameRefused):
        names.email_key(text)


def test_email_key_folds_width_and_case() -> None:
    assert names.email_key("ＡLICE@Acme.Test") == names.email_key("alice@acme.test") == "alice@acme.test"


@pytest.mark.parametrize("text", ["", "  ", "a" * 101, "Alice\u202eBob", "A\u200bB", "A\x00B", "\ud800"])
def test_display_name_refuses(text: str) -> None:
    with pytest.raises(NameRefused):
        names.display_name(text)


@pytest.mark.parametrize("slug", ["acme", "ACME", "acrne", "ac-me"])
def test_create_tenant_refuses_a_slug_that_is_or_looks_taken(slug: str, world: Cast) -> None:
    with pytest.raises(NameTaken):
        services.create_tenant(slug=slug, name="Another", actor=ACTOR)
    assert Tenant.objects.count() == 2


def test_create_tenant_and_create_person_leave_entries_in_their_own_log(world: Cast) -> None:
    mine = Entry.unscoped.filter(tenant_id=world.other.pk).order_by("seq").values_list("tag", "subject")
    assert list(mine) == [
        ("tenants:tenant:create", str(world.other.pk)),
        ("tenants:person:create", str(world.mallory.pk)),
        ("tenants:person:activate", str(world.mallory.pk)),
    ]


def test_address_is_unique_in_a_tenant_and_free_in_another(world: Cast) -> None:
    with tenant_scope(world.acme.pk), pytest.raises(NameTaken):
        services.create_person(email="ALICE@acme.test", name="Alice", actor=ACTOR)
    with tenant_scope(world.other.pk):
        services.create_person(email="alice@acme.test", name="Alice", actor=ACTOR)


def test_role_that_does_not_exist_is_refused(world: Cast) -> None:
    with tenant_scope(world.acme.pk), pytest.raises(ValueError, match="root"):
        services.create_person(email="x@acme.test", name="X", role="root", actor=ACTOR)


def test_people_of_another_tenant_are_not_found(world: Cast) -> None:
    with tenant_scope(world.other.pk):
        for person_id in (world.alice.pk, uuid.uuid4()):
            with pytest.raises(NotFound):
                access.person(person_id)
        assert access.people_by_id([world.alice.pk, world.mallory.pk]).keys() == {world.mallory.pk}
        assert [person.pk for person in access.people()] == [world.mallory.pk]
        assert access.tenant() == world.other


def test_nothing_is_read_without_a_scope(world: Cast) -> None:
    for read in (lambda: access.person(world.alice.pk), access.people, access.tenant, access.service_accounts):
        with pytest.raises(UnscopedQuery):
            read()


@pytest.mark.parametrize("state", [*PersonState.values, "locked", ""])
def test_only_active_officers_count(state: str, world: Cast) -> None:
    Person.unscoped.filter(pk=world.carol.pk).update(state=state)
    with tenant_scope(world.acme.pk):
        assert access.is_active_officer(world.carol.pk) == (state == "active")
        assert (world.carol in access.active_officers()) == (state == "active")
        assert not access.is_active_officer(world.alice.pk)


def invited_again(*, person: Person, actor: Actor) -> None:
    """Resume somebody who had proved nothing when they were suspended."""
    person.active_since = None
    administration.resume(person=person, actor=actor)


@pytest.mark.parametrize("origin", PersonState.values)
@pytest.mark.parametrize("target", PersonState.values)
def test_person_moves_as_the_table_says(origin: str, target: str, world: Cast) -> None:
    Person.unscoped.filter(pk=world.alice.pk).update(state=origin)
    with tenant_scope(world.acme.pk):
        alice = access.person(world.alice.pk)
        verb = {
            "active": services.activate_person,
            "suspended": services.suspend_person,
            "left": services.leave_person,
            "invited": invited_again,
        }[target]
        if PERSON.allows(origin, target):
            verb(person=alice, actor=ACTOR)
            assert access.person(alice.pk).state == target
        else:
            with pytest.raises(ValueError, match="no transition"):
                verb(person=alice, actor=ACTOR)


@pytest.mark.parametrize("origin", CredentialState.values)
@pytest.mark.parametrize("target", ["active", "suspended", "revoked"])
def test_credential_moves_as_the_table_says(origin: str, target: str, world: Cast) -> None:
    device = make_device(world.alice)
    Credential.unscoped.filter(id=device.id).update(state=origin)
    verb = {
        "active": services.activate_credential,
        "suspended": services.suspend_credential,
        "revoked": services.revoke_credential,
    }[target]
    before = Entry.unscoped.count()
    with tenant_scope(world.acme.pk):
        if CREDENTIAL.allows(origin, target):
            verb(credential_id=device.id, actor=ACTOR)
        else:
            with pytest.raises(Conflict):
                verb(credential_id=device.id, actor=ACTOR)
        moved = CREDENTIAL.allows(origin, target)
        assert access.credential_state(device.id) == (target if moved else origin)
    assert Entry.unscoped.count() - before == moved


def test_credential_of_another_tenant_is_not_found(world: Cast) -> None:
    device = make_device(world.alice)
    with tenant_scope(world.other.pk):
        for credential_id in (device.id, uuid.uuid4()):
            with pytest.raises(NotFound):
                services.suspend_credential(credential_id=credential_id, actor=ACTOR)
            with pytest.raises(NotFound):
                access.credential_state(credential_id)


@pytest.mark.parametrize("role", [Role.OWNER, Role.OFFICER])
def test_last_active_owner_or_officer_stays(role: str, world: Cast) -> None:
    with tenant_scope(world.other.pk):
        person = access.person(world.mallory.pk)
        if role == Role.OFFICER:
            person = make_person("olga", role)
            make_person("omar", Role.MEMBER)
        for refuse in (
            lambda: services.suspend_person(person=person, actor=ACTOR),
            lambda: services.change_role(person=person, role=Role.MEMBER, actor=ACTOR),
        ):
            with pytest.raises(LastOfficer):
                refuse()
        make_person("second", role)
        services.suspend_person(person=person, actor=ACTOR)
        assert access.person(person.pk).state == "suspended"


def test_root_that_is_shown_is_the_one_that_is_pinned(world: Cast) -> None:
    with tenant_scope(world.acme.pk):
        for _ in range(2):
            services.show_root(root_key=b"k" * 33)
        for act in (services.show_root, partial(services.pin_root, root_pin=b"p" * 32, actor=ACTOR)):
            with pytest.raises(RootPinned):
                act(root_key=b"K" * 33)
        assert access.tenant().root_pin is None
        services.pin_root(root_key=b"k" * 33, root_pin=b"p" * 32, actor=ACTOR)
        services.show_root(root_key=b"k" * 33)
        assert bytes(access.tenant().root_pin or b"") == b"p" * 32


def test_root_is_pinned_once(world: Cast) -> None:
    with tenant_scope(world.acme.pk):
        services.pin_root(root_key=b"k" * 33, root_pin=b"p" * 32, actor=ACTOR)
        services.pin_root(root_key=b"k" * 33, root_pin=b"p" * 32, actor=ACTOR)
        for key, pin in ((b"K" * 33, b"p" * 32), (b"k" * 33, b"P" * 32)):
            with pytest.raises(RootPinned):
                services.pin_root(root_key=key, root_pin=pin, actor=ACTOR)
        assert bytes(access.tenant().root_pin or b"") == b"p" * 32
    assert Entry.unscoped.filter(tag="tenants:root:pin").count() == 1


@pytest.mark.parametrize("password", [b"", b"thirteen char", b"\xff" * 20, b"1q2w3e4r5t6y7u8i9o0p"])
def test_weak_password_is_refused(password: bytes, world: Cast) -> None:
    with tenant_scope(world.acme.pk), pytest.raises(PasswordRefused):
        services.set_password(person=world.carol, password=SecretBytes(password), actor=ACTOR)
    assert not Person.unscoped.get(pk=world.carol.pk).has_usable_password()


def test_password_is_kept_as_argon2id(world: Cast) -> None:
    with tenant_scope(world.acme.pk):
        services.set_password(person=world.carol, password=SecretBytes(b"a long enough one"), actor=ACTOR)
    assert Person.unscoped.get(pk=world.carol.pk).password.startswith("argon2$argon2id$v=19$m=")


def test_service_account_is_named_once(world: Cast) -> None:
    from holdfast.core.crypto.keys import SigningKey

    key = SigningKey.generate().public.encoded
    with tenant_scope(world.acme.pk):
        account = services.create_service_account(name="siem", public_key=key, actor=ACTOR)
        with pytest.raises(NameTaken):
            services.create_service_account(name="siem", public_key=key, actor=ACTOR)
        assert access.service_accounts() == [account]
        assert access.credential_state(account.pk) == "active"


def _break_the_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER no_more_entries BEFORE INSERT ON audit_waiting"
            " BEGIN SELECT RAISE(ABORT, 'the log is away'); END"
        )


ACTS = {
    "create_tenant": lambda world: services.create_tenant(slug="third", name="Third", actor=ACTOR),
    "create_person": lambda world: services.create_person(email="z@acme.test", name="Z", actor=ACTOR),
    "suspend_person": lambda world: services.suspend_person(person=world.alice, actor=ACTOR),
    "change_role": lambda world: services.change_role(person=world.alice, role=Role.AUDITOR, actor=ACTOR),
    "pin_root": lambda world: services.pin_root(root_key=b"k" * 33, root_pin=b"p" * 32, actor=ACTOR),
    "issue_enrolment_code": lambda world: services.issue_enrolment_code(
        person=world.alice, code_hash=b"h" * 32, actor=ACTOR
    ),
    "set_password": lambda world: services.set_password(
        person=world.alice, password=SecretBytes(b"a long enough one"), actor=ACTOR
    ),
}


def _rows() -> list[object]:
    with connection.cursor() as cursor:
        found: list[object] = []
        for table in ("tenant", "person", "enrolmentcode", "credential"):
            cursor.execute(f"SELECT * FROM tenants_{table} ORDER BY id")
            found.append(cursor.fetchall())
    return found


@pytest.mark.parametrize("act", ACTS)
def test_act_does_not_happen_when_its_entry_cannot_be_written(act: str, world: Cast) -> None:
    before = _rows()
    _break_the_log()
    with tenant_scope(world.acme.pk), pytest.raises(Unavailable):
        ACTS[act](world)
    assert _rows() == before


def test_rows_never_print_more_than_ids(world: Cast) -> None:
    for row in (world.alice, world.acme):
        assert str(row).endswith(str(row.pk))
        assert "acme" not in str(row).replace(str(row.pk), "")
