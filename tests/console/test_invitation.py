# SPDX-License-Identifier: Apache-2.0
"""The invitation page: both factors set by a link that works once, and recovery codes that each stand in once."""

from __future__ import annotations

import base64
import html
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from audit.models import Entry
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants import invitations, services, sign_in
from tenants.errors import InvitationRefused
from tenants.invitations import TRIES_PER_SOURCE
from tenants.models import Authenticator, Invitation, Person, RecoveryCode, Tenant
from tenants.roles import Role
from tenants.states import TenantState
from tests.cast.browsers import signed_in
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, forget_codes, sealing

pytestmark = pytest.mark.urls("tests.tenants.urls")
PASSWORD = "four words that nobody guessed"
SIGN_IN, CODE, HOME = "/console/sign-in/", "/console/sign-in/code/", "/console/"


@pytest.fixture
def world(hsm: Hsm, db: None) -> Cast:
    return sealing(build_world())


@pytest.fixture
def ivy(world: Cast) -> Person:
    """An owner who was invited, in a tenant that is being founded."""
    Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.FOUNDING)
    with tenant_scope(world.acme.pk):
        return services.create_person(
            email="ivy@acme.test", name="Ivy", role=Role.OWNER, actor=system_actor(world.acme.pk, "ceremony")
        )


def link(person: Person) -> str:
    with tenant_scope(person.tenant_id):
        made = invitations.invite(person=person, actor=system_actor(person.tenant_id, "ceremony"))
    return "/console/" + made.text.reveal().decode().split("/console/", 1)[1]


def key_of(page: Any) -> SecretBytes:
    shown = re.search(r'<span class="mono small">([A-Z2-7 ]+)</span>', page.content.decode())
    assert shown is not None
    return SecretBytes(base64.b32decode(shown[1].replace(" ", "")))


def accept(client: Client, address: str, **changes: str) -> Any:
    key = key_of(client.get(address))
    typed = {"password": PASSWORD, "again": PASSWORD, "code": sign_in.totp_code(key, at=time.time())}
    return client.post(address, typed | changes)


def codes_of(page: Any) -> list[str]:
    return re.findall(r'<li class="mono">([a-z2-7-]+)</li>', html.unescape(page.content.decode()))


def sign(client: Client, code: str) -> Any:
    typed = {"tenant": "acme", "email": "ivy@acme.test", "password": PASSWORD}
    assert client.post(SIGN_IN, typed)["location"] == CODE
    return client.post(CODE, {"code": code})


@pytest.mark.postgres
def test_link_sets_both_factors_and_lets_the_person_in(ivy: Person, client: Client) -> None:
    address = link(ivy)
    page = client.get(address)
    assert (page.status_code, page["cache-control"]) == (200, "max-age=0, no-cache, no-store, must-revalidate, private")
    key = key_of(page)
    assert key_of(client.get(address)) == key, "what was scanned stays right"
    done = accept(client, address)
    codes = codes_of(done)
    assert (done.status_code, len(codes), len(set(codes))) == (200, 10, 10)
    assert ivy.reload().state == "active"
    forget_codes(ivy)
    assert sign(client, sign_in.totp_code(key, at=time.time()))["location"] == HOME
    found = list(Entry.unscoped.filter(subject=str(ivy.pk)).order_by("seq").values_list("tag", flat=True))
    assert found == [
        "tenants:person:create",
        "tenants:invitation:issue",
        "tenants:invitation:accept",
        "tenants:password:set",
        "tenants:totp:confirm",
        "tenants:person:activate",
        "tenants:recovery-code:make",
        "tenants:sign-in:accept",
    ]


def test_link_that_was_made_at_the_same_moment_ends_with_the_first(ivy: Person, client: Client) -> None:
    """Else it sets both factors of somebody who is here already."""
    address = link(ivy)
    first = Invitation.unscoped.get(person=ivy)
    other = link(ivy)
    # As after two acts that did not see each other.
    Invitation.unscoped.filter(pk=first.pk).update(expires_at=database_now() + timedelta(hours=1))
    assert accept(client, address).status_code == 200
    assert Client().get(other).status_code == 404


def test_link_works_once(ivy: Person, client: Client) -> None:
    address = link(ivy)
    accept(client, address)
    other = Client()
    assert other.get(address).status_code == 404
    assert (
        other.post(address, {"password": "another phrase of mine", "again": "another phrase of mine"}).status_code
        == 404
    )
    assert ivy.reload().check_password(PASSWORD)


def test_two_who_opened_one_link_do_not_both_get_in(ivy: Person) -> None:
    address = link(ivy)
    row = Invitation.unscoped.get()
    first, second = Client(), Client()
    first.get(address)
    key = key_of(second.get(address))
    accept(first, address)
    with pytest.raises(InvitationRefused):
        invitations.accept(
            tenant_id=ivy.tenant_id,
            invitation_id=row.pk,
            password=SecretBytes(b"another phrase of mine"),
            totp_key=key,
            code=sign_in.totp_code(key, at=time.time()),
        )
    assert ivy.reload().check_password(PASSWORD)


def test_link_that_was_forwarded_signs_whoever_opens_it_out_and_makes_nobody_them(ivy: Person, world: Cast) -> None:
    """Somebody who is signed in opens another's link: their own factors stay, and their session is over."""
    carol = signed_in(world.carol)
    before = Authenticator.objects.get(user=world.carol).sealed
    address = link(ivy)
    page = carol.get(address)
    assert "Welcome, Ivy" in page.content.decode()
    assert accept(carol, address).status_code == 200
    assert carol.get(HOME)["location"] == SIGN_IN
    assert Authenticator.objects.get(user=world.carol).sealed == before
    assert Authenticator.objects.filter(user=ivy).exists()


def test_later_link_voids_the_earlier_and_all_end_after_72_hours(ivy: Person, client: Client) -> None:
    first, second = link(ivy), link(ivy)
    assert client.get(first).status_code == 404
    assert client.get(second).status_code == 200
    row = Invitation.unscoped.order_by("-created_at").first()
    assert row is not None
    assert timedelta(hours=71) < row.expires_at - row.created_at <= timedelta(hours=72, seconds=1)
    Invitation.unscoped.update(expires_at=row.created_at)
    assert client.get(second).status_code == 404


def test_wrong_links_are_one_page(ivy: Person, world: Cast, client: Client) -> None:
    address = link(ivy)
    token = address.rstrip("/").rpartition("/")[2]
    wrong = [
        f"/console/invitation/{world.other.pk}/{token}/",
        f"/console/invitation/{ivy.tenant_id}/{'A' * 22}/",
        f"/console/invitation/{ivy.tenant_id}/no-token/",
        f"/console/invitation/{ivy.tenant_id}/{token[:-1]}!/",
    ]
    pages = {client.get(one).content for one in wrong}
    assert len(pages) == 1
    Tenant.objects.filter(pk=ivy.tenant_id).update(state=TenantState.ENDED)
    assert client.get(address).content in pages


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"again": "something else entirely"}, "passwords differ"),
        ({"password": "short", "again": "short"}, "too short"),
        ({"code": "000000x"}, "not the code"),
        ({"code": ""}, "not the code"),
    ],
)
def test_wrong_form_changes_nothing_and_says_what_is_wrong(
    changes: dict[str, str], says: str, ivy: Person, client: Client
) -> None:
    address = link(ivy)
    refused = accept(client, address, **changes)
    assert refused.status_code == 400
    assert says in refused.content.decode()
    assert ivy.reload().state == "invited"
    assert not ivy.has_usable_password()
    assert not RecoveryCode.unscoped.exists()
    assert accept(client, address).status_code == 200


def test_without_the_hsm_nothing_is_set_and_the_link_stays(ivy: Person, client: Client, hsm: Hsm) -> None:
    def away() -> Any:
        raise HsmUnavailable("the token was removed")

    address = link(ivy)
    registry.install(away)
    refused = accept(client, address)
    assert (refused.status_code, "cannot be set up at this moment" in refused.content.decode()) == (503, True)
    assert (ivy.reload().state, ivy.has_usable_password()) == ("invited", False)
    hsm.install()
    assert accept(client, address).status_code == 200


def test_form_without_its_session_shows_a_key_again(ivy: Person, client: Client) -> None:
    address = link(ivy)
    assert client.post(address, {"password": PASSWORD, "again": PASSWORD, "code": "123456"}).status_code == 400
    assert ivy.reload().state == "invited"


def test_links_are_not_guessed_without_end(ivy: Person, client: Client) -> None:
    address = link(ivy)
    for _ in range(TRIES_PER_SOURCE):
        client.get(address)
    assert client.get(address).status_code == 429


def test_recovery_code_stands_in_once_for_its_own_person(ivy: Person, world: Cast, client: Client) -> None:
    codes = codes_of(accept(client, link(ivy)))
    assert sign(client, f" {codes[0].upper().replace('-', '')} ")["location"] == HOME
    assert client.get(HOME).status_code == 200
    assert sign(Client(), codes[0]).status_code == 401
    assert sign(Client(), codes[1])["location"] == HOME
    assert sign_in.accept_code(person=world.carol, code=codes[2]) is None
    assert Entry.unscoped.filter(tag="tenants:recovery-code:use", subject=str(ivy.pk)).count() == 2
    # New ones stop all of before.
    with tenant_scope(ivy.tenant_id):
        sign_in.make_recovery_codes(person=ivy, actor=system_actor(ivy.tenant_id, "ceremony"))
    assert sign_in.accept_code(person=ivy, code=codes[3]) is None


def test_rows_hold_neither_token_nor_code(ivy: Person, client: Client) -> None:
    address = link(ivy)
    token = address.rstrip("/").rpartition("/")[2]
    codes = codes_of(accept(client, address))
    stored = [bytes(row.token_hash) for row in Invitation.unscoped.all()]
    stored += [bytes(row.code_hash) for row in RecoveryCode.unscoped.all()]
    assert all(len(one) == 32 for one in stored)
    assert not [one for one in stored if token.encode() in one or codes[0].encode() in one]
