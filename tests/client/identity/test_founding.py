# SPDX-License-Identifier: Apache-2.0
"""A tenant that is being founded, as its officers' clients meet it: first the root is pinned, then the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from holdfast.client.errors import Problem, TrustRefused
from holdfast.client.identity import device, tenant
from holdfast.client.identity.device import Enrolment
from holdfast.client.maintenance import Outcome, maintain
from holdfast.client.profile.account import Account
from holdfast.core.base.words import eight_words
from holdfast.core.crypto.keys import PublicKey, SigningKey
from holdfast.core.identity.policy import SignedPolicy, verify_founding
from holdfast.core.signed.cose import parse_many
from holdfast.core.signed.enrolment import EnrolmentCode, founding_root
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import TENANT, Tenant
from tests.cast.members import ALICE, Members
from tests.client.officers.test_joining import become

HISTORIES = ("GET escrow/policy", "GET escrow/key")


def found(world: Members, *, key: PublicKey | None = None, user: bytes = ALICE) -> tuple[Account, Enrolment]:
    """Enrol somebody by a founding code."""
    account = world.profile(user)
    return account, device.enrol(account, code(world, key=key, user=user), name="laptop")


def code(world: Members, *, key: PublicKey | None = None, user: bytes = ALICE) -> EnrolmentCode:
    root = founding_root(TENANT, key or world.server.tenant.root.public)
    vkey = world.server.keys_log.verifier("audit").to_text()
    return EnrolmentCode.new(tenant=TENANT, person=user, log_vkey=vkey, founding_root=root)


def unpublished(world: Members, *paths: str) -> None:
    for path in paths or HISTORIES:
        world.server.instead[path] = lambda _body: refused(409, "escrow-off")


def first_policy(world: Members) -> SignedPolicy:
    return verify_founding(parse_many(world.server.tenant.policies[0], max_size=100_000), tenant=TENANT)


def test_founding_code_pins_the_root_and_shows_its_words(world: Members) -> None:
    unpublished(world)
    account, done = found(world)
    root = founding_root(TENANT, world.server.tenant.root.public)
    assert done.is_active
    assert (done.trust.is_founding, done.trust.is_tofu) == (True, False)
    assert done.trust.pin_words == eight_words(root)
    assert account.state.trust.founding_root == root
    assert not account.state.trust.pin
    again = device.enrol(account, code(world), name="laptop")
    assert again.trust.is_founding


def test_officer_of_a_tenant_that_is_being_founded_has_all_that_joining_makes(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    assert become(account).is_stated
    assert not [one for one in maintain(account) if one.outcome is Outcome.FAILED]


def test_trust_is_completed_by_the_policy_that_the_officer_has_signed(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    root = world.server.tenant.root.public
    for _ in range(2):
        tenant.complete_founding_trust(account, root, first_policy(world))
    assert account.state.trust.pin == world.server.tenant.pin
    assert account.state.trust.founding_root == founding_root(TENANT, root), "until a policy is published"
    # Published, but for the escrow key, which officers have still to sign.
    world.server.instead.pop("GET escrow/policy")
    change = tenant.refresh(account)
    assert (change.policy_now, change.key_now, change.is_founding, change.is_another) == (1, 0, False, False)
    assert not account.state.trust.founding_root
    world.server.instead.clear()
    assert tenant.refresh(account).key_now == 1


def test_trust_is_completed_for_no_other_root_and_for_no_second_policy(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    policy = first_policy(world)
    with pytest.raises(TrustRefused, match="not the one that your enrolment code names"):
        tenant.complete_founding_trust(account, SigningKey.generate().public, policy)
    assert account.state.trust.founding_root
    tenant.complete_founding_trust(account, world.server.tenant.root.public, policy)
    world.server.instead.clear()
    tenant.refresh(account)
    with pytest.raises(TrustRefused, match="another first policy"):
        tenant.complete_founding_trust(account, world.server.tenant.root.public, draft())


def draft() -> SignedPolicy:
    """A first policy that was signed, and is not the one that the server's tenant is founded with."""
    return verify_founding(parse_many(Tenant().policies[0], max_size=100_000), tenant=TENANT)


def test_whoever_signed_a_draft_takes_the_published_policy_by_the_roots_word_and_is_told(world: Members) -> None:
    """The founders may agree on a policy without whoever signed an earlier one: they are still of the tenant."""
    unpublished(world)
    account, _done = found(world)
    tenant.complete_founding_trust(account, world.server.tenant.root.public, draft())
    signed, root = account.state.trust.pin, account.state.trust.founding_root
    assert root == founding_root(TENANT, world.server.tenant.root.public), "kept beside the draft that was signed"
    world.server.instead.pop("GET escrow/policy")
    change = tenant.refresh(account)
    assert (change.policy_now, change.is_founding, change.is_another) == (0, True, False), "nobody vouches for it yet"
    assert account.state.trust.pin == signed
    # What a code hands on is the root: the draft is nobody else's pin.
    assert EnrolmentCode.parse(device.issue_code(account, uuid4()).text).root_pin == b""
    world.server.instead.clear()
    told = [one.said for one in maintain(account) if one.outcome is Outcome.NEEDS_YOU]
    assert "Your organisation was founded with another policy than the one that you signed." in told
    trust = account.state.trust
    assert (trust.pin, trust.founding_root) == (world.server.tenant.pin, None)
    assert not tenant.refresh(account).is_another


def test_other_policy_than_the_signed_one_is_refused_without_the_roots_word_and_the_pin_stays(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    honest = world.server.tenant
    tenant.complete_founding_trust(account, honest.root.public, draft())
    kept = (account.state.trust.pin, account.state.trust.root_key, account.state.trust.founding_root)
    world.server.instead.clear()
    other = SigningKey.generate()
    honest.keys[0] = honest.sign_key(honest.escrow.public, version=1, predecessor=b"", by_root=other)
    with pytest.raises(TrustRefused):
        tenant.refresh(account)
    trust = account.state.trust
    assert (trust.pin, trust.root_key, trust.founding_root) == kept
    assert trust.policies == []


def test_whoever_signed_no_policy_believes_it_with_the_escrow_key_that_the_root_has_signed(world: Members) -> None:
    unpublished(world, "GET escrow/key")
    account, done = found(world)
    assert (done.trust.is_founding, done.trust.policy_now) == (True, 0), "nobody vouches for the policy yet"
    world.server.instead.clear()
    change = tenant.refresh(account)
    assert (change.is_founding, change.is_tofu, change.policy_now, change.key_now) == (False, False, 1, 1)
    assert account.state.trust.pin == world.server.tenant.pin


@pytest.mark.parametrize("is_other_root", [True, False], ids=["another root", "a key that the root has not signed"])
def test_founding_by_another_root_is_refused_and_nothing_of_it_is_kept(world: Members, is_other_root: bool) -> None:
    unpublished(world)
    account, _done = found(world)
    world.server.instead.clear()
    honest = world.server.tenant
    if is_other_root:
        # With everything else as it was: the root alone is another.
        world.server.tenant = Tenant(log=honest.log)
    else:
        other = SigningKey.generate()
        honest.keys[0] = honest.sign_key(honest.escrow.public, version=1, predecessor=b"", by_root=other)
    with pytest.raises(TrustRefused):
        tenant.refresh(account)
    trust = account.state.trust
    assert (trust.pin, trust.root_key, trust.policies) == (b"", b"", [])
    assert trust.founding_root == founding_root(TENANT, honest.root.public)


@pytest.mark.parametrize("path", ["GET audit/roles", "GET escrow/key"])
@pytest.mark.parametrize("is_founding", [True, False], ids=["founding", "founded"])
def test_refresh_that_stops_half_way_leaves_nothing_to_be_saved(world: Members, is_founding: bool, path: str) -> None:
    """Anybody founds a tenant of their own: what vouches for one is the root's word, and that has to be read."""
    if is_founding:
        unpublished(world)
        account, _done = found(world)
        world.server.instead.clear()
        world.server.tenant.policies[:] = Tenant().policies
    else:
        account = world.enrolled(ALICE)
        house = world.server.tenant
        signed = house.sign_policy(house.officers, version=2, predecessor=house.policy_hash, signers=house.officers[:2])
        house.policies.append(signed)
    known = replace(account.state.trust)
    world.server.instead[path] = lambda _body: refused(503, "unavailable")
    with pytest.raises(Problem):
        tenant.refresh(account)
    account.save()
    assert account.state.trust == known


def test_second_founding_code_names_the_same_root(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    other: Any = SigningKey.generate().public
    with pytest.raises(TrustRefused, match="another root"):
        device.enrol(account, code(world, key=other), name="laptop")


def test_policy_that_was_there_is_missed(world: Members) -> None:
    account = world.enrolled(ALICE)
    unpublished(world)
    with pytest.raises(Problem):
        tenant.refresh(account)


def test_officer_hands_the_founding_root_on_in_the_codes_they_issue(world: Members) -> None:
    unpublished(world)
    account, _done = found(world)
    issued = EnrolmentCode.parse(device.issue_code(account, uuid4()).text)
    assert (issued.root_pin, issued.founding_root) == (b"", account.state.trust.founding_root)
