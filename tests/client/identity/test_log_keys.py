# SPDX-License-Identifier: Apache-2.0
"""Whose key signs the log is the tenant root's word, followed from the pin. ESCROW "What it believes of the log"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import TrustRefused
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device, key_log, tenant
from holdfast.client.identity.key_log import Anchor
from holdfast.client.profile.account import Account, open_store
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import RoleKey
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.writers import Role
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.cast.members import ALICE, BOB, Members

NEW = SigningKey.generate()


def vkey(world: Members, key: SigningKey) -> str:
    return NoteVerifier(world.server.keys_log.verifier("audit").name, key.public).to_text()


def name_keys(world: Members, *keys: RoleKey, by_root: SigningKey | None = None) -> None:
    """Have the root say it, in a version after those before."""
    world.server.tenant.roles.append(world.server.tenant.sign_roles(*keys, by_root=by_root))


def rotated(world: Members, *, until: int = 0) -> None:
    """Name a new key of the log, beside the old one or in its place; the log signs with the new one from now on."""
    old = world.server.tenant.log
    name_keys(world, RoleKey(Role.LOG, old.public, until), RoleKey(Role.LOG, NEW.public))
    world.server.keys_log.key = NEW


def enrol_with(world: Members, account: Account, code: EnrolmentCode) -> None:
    device.enrol(account, code, name="laptop")


def test_log_key_is_the_one_that_the_root_names_whatever_the_code_leaves_out(world: Members) -> None:
    bob = world.profile(BOB)
    enrol_with(world, bob, replace(world.server.code(BOB), log_vkey=""))
    assert bob.state.trust.log_keys == [vkey(world, world.server.tenant.log)]
    world.enrolled(ALICE)
    assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.ANCHORED


def test_code_that_names_a_log_key_of_its_own_is_an_alarm(world: Members) -> None:
    bob = world.profile(BOB)
    with pytest.raises(TrustRefused, match="names a log key that the tenant root does not"):
        enrol_with(world, bob, replace(world.server.code(BOB), log_vkey=vkey(world, NEW)))
    assert bob.state.trust.roles is None


def test_code_from_before_the_log_key_was_replaced_leads_to_the_key_of_today(world: Members) -> None:
    code = world.server.code(BOB)
    rotated(world, until=5)
    bob = world.profile(BOB)
    enrol_with(world, bob, code)
    assert bob.state.trust.log_keys == [vkey(world, NEW)]


def test_replaced_log_key_is_followed_and_heads_from_before_still_count(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    gossip = key_log.own_checkpoint(bob)
    rotated(world, until=9)
    archive.new_generation(alice)
    assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.ANCHORED
    assert bob.state.trust.log_keys == [vkey(world, NEW)], "asked for when it met a head under a key it did not know"
    assert key_log.hear(bob, gossip), "signed by the key of its day"
    assert key_log.compare_heard(bob) == 1


def test_two_log_keys_sign_while_one_replaces_the_other_and_codes_carry_the_new_one(world: Members) -> None:
    bob = world.enrolled(BOB)
    rotated(world)
    tenant.refresh(bob)
    assert bob.state.trust.log_keys == [vkey(world, NEW), vkey(world, world.server.tenant.log)]
    world.enrolled(ALICE)
    for key in (NEW, world.server.tenant.log):
        world.server.keys_log.key = key
        assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.ANCHORED
    assert EnrolmentCode.parse(device.issue_code(bob, UUID(bytes=ALICE)).text).log_vkey == vkey(world, NEW)


def test_head_under_a_key_that_ended_or_was_never_named_is_refused(world: Members) -> None:
    bob, old = world.enrolled(BOB), world.server.tenant.log
    world.enrolled(ALICE)
    rotated(world, until=9)
    tenant.refresh(bob)
    for key in (old, SigningKey.generate()):
        world.server.keys_log.key = key
        with pytest.raises(TrustRefused, match="does not vouch"):
            contacts.refresh(bob, ALICE)


def older(world: Members) -> None:
    """The key that has ended signs again."""
    world.server.tenant.roles.pop()


def forked(world: Members) -> None:
    world.server.tenant.roles.pop()
    name_keys(world, RoleKey(Role.LOG, world.server.tenant.log.public), RoleKey(Role.LOG, SigningKey.generate().public))


def by_another_root(world: Members) -> None:
    name_keys(world, RoleKey(Role.LOG, world.server.tenant.log.public), by_root=SigningKey.generate())


def without_the_old_key(world: Members) -> None:
    name_keys(world, RoleKey(Role.LOG, SigningKey.generate().public))


def hidden(world: Members) -> None:
    world.server.tenant.roles.clear()


def all_ended(world: Members) -> None:
    old = world.server.tenant.log
    name_keys(world, RoleKey(Role.LOG, old.public, 9), RoleKey(Role.LOG, NEW.public, 9))


@pytest.mark.parametrize("lie", [older, forked, by_another_root, without_the_old_key, hidden, all_ended])
def test_word_on_the_log_keys_that_does_not_follow_is_refused_and_what_was_known_stays(
    world: Members, lie: Any
) -> None:
    bob = world.enrolled(BOB)
    rotated(world)
    rotated(world, until=9)
    tenant.refresh(bob)
    known = (bob.state.trust.roles, list(bob.state.trust.log_keys))
    lie(world)
    with pytest.raises(TrustRefused):
        tenant.refresh(bob)
    assert (bob.state.trust.roles, bob.state.trust.log_keys) == known


def test_what_was_accepted_is_remembered_in_the_profile(world: Members) -> None:
    bob = world.enrolled(BOB)
    rotated(world)
    tenant.refresh(bob)
    again = open_store(bob.store)
    assert again.roles == bob.roles
    assert again.roles is not None
    assert again.roles.roles.version == 2


def test_server_older_than_role_keys_is_held_to_the_code_as_before(world: Members) -> None:
    world.server.tenant.roles.clear()
    bob = world.enrolled(BOB)
    assert bob.roles is None
    assert bob.state.trust.log_keys == [vkey(world, world.server.tenant.log)]
    world.enrolled(ALICE)
    assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.ANCHORED


def test_log_keys_are_one_request_of_a_refresh(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.server.log.clear()
    tenant.refresh(bob)
    assert [path for _, path, _ in world.server.log] == ["escrow/policy", "audit/roles", "escrow/key"]
