# SPDX-License-Identifier: Apache-2.0
"""Whose keys write a log, by the root's word alone; and every entry that nobody entitled wrote is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import MAX_KEYS, RoleKey, Roles, SignedRoles, WrongLeaf, check_leaf, verify_roles
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.writers import WRITERS, Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast.statements import (
    ACME,
    MALLORY_TENANT,
    NOW,
    OLD_WEB_KEY,
    ROLE_KEYS,
    ROLES,
    ROOT,
    SEALING,
    TENANT,
    hash_of,
    id_of,
)

ORIGIN = log_origin(str(UUID(bytes=ACME)), "audit")
READ = LogEntry(id_of("entry"), "audit:entries:read", "device:x", id_of("person"), "subject", NOW, {"count": 1})


def signed(roles: Roles, *, key: SigningKey = ROOT, purpose: Purpose = Purpose.ROLES) -> Sign1:
    return cose.sign(roles.to_payload(), purpose=purpose, key=key)


def verified(roles: Roles, *, seen: Roles | None = None, tenant: bytes = ACME) -> SignedRoles:
    before = verify_roles(signed(seen), tenant=tenant, root_key=ROOT.public) if seen else None
    return verify_roles(signed(roles), tenant=tenant, root_key=ROOT.public, seen=before)


def later(before: Roles = ROLES, **changes: Any) -> Roles:
    """The version after `before`, naming it."""
    after: dict[str, Any] = {"version": before.version + 1, "predecessor": signed(before).payload_hash} | changes
    return replace(before, **after)


def leaf_by(role: Role, entry: LogEntry = READ, *, key: SigningKey | None = None, origin: str = ORIGIN) -> bytes:
    return entry.signed(origin=origin, key=key or ROLE_KEYS[role]).to_leaf()


# The statement


def test_roles_say_which_keys_hold_and_which_ever_did() -> None:
    assert list(ROLES.of(Role.WEB)) == [ROLE_KEYS[Role.WEB].public]
    assert ROLES.named(OLD_WEB_KEY.public.kid) == RoleKey(Role.WEB, OLD_WEB_KEY.public, 100)
    assert ROLES.named(bytes(16)) is None
    assert ROLES.origin == ORIGIN


def test_roles_have_the_bytes_that_the_format_page_says() -> None:
    fields: Any = decode(later(unsigned=(7, hash_of("head"))).to_payload())
    assert fields[7] == 2
    assert fields[8][0] == ["web", ROLE_KEYS[Role.WEB].public.encoded, 0]
    assert fields[8][-1] == ["web", OLD_WEB_KEY.public.encoded, 100]
    assert (fields[9], fields[10]) == (signed(ROLES).payload_hash, [7, hash_of("head")])
    assert {row[0] for row in fields[8]} == {"web", "worker", "sequencer", "release", "ceremony", "log"}


def _with_row(*row: Any) -> Callable[[dict[int, Any]], None]:
    return lambda fields: fields[8].append(list(row))


NEW = SigningKey.generate().public.encoded


@pytest.mark.parametrize(
    "spoil",
    [
        _with_row("root", NEW, 0),
        _with_row("WEB", NEW, 0),
        _with_row(1, NEW, 0),
        _with_row("web", NEW),
        _with_row("web", NEW, 0, 0),
        _with_row("web", NEW, -1),
        _with_row("web", SEALING.public.encoded, 0),
        _with_row("worker", ROLE_KEYS[Role.WEB].public.encoded, 0),  # one key of two roles
        _with_row("web", ROLE_KEYS[Role.WEB].public.encoded, 9),  # one key with two ends
        lambda fields: fields.update({8: []}),
        lambda fields: fields[8].extend(
            ["web", SigningKey.generate().public.encoded, 0] for _ in range(MAX_KEYS - len(fields[8]) + 1)
        ),
        lambda fields: fields.update({7: 0}),
        lambda fields: fields.update({9: bytes(32)}),  # the first follows none
        lambda fields: fields.update({7: 2}),  # and every other one does
        lambda fields: fields.update({7: 2, 9: bytes(31)}),
        lambda fields: fields.update({10: [0, bytes(32)]}),
        lambda fields: fields.update({10: [1, bytes(31)]}),
        lambda fields: fields.update({10: [1]}),
        lambda fields: fields.update({3: ACME}),
        lambda fields: fields.update({11: 0}),
    ],
)
def test_roles_in_another_form_are_refused(spoil: Callable[[dict[int, Any]], None]) -> None:
    fields: Any = decode(ROLES.to_payload())
    spoil(fields)
    with pytest.raises(Malformed):
        Roles.from_payload(encode(fields))


def test_roles_are_the_root_s_word_about_its_own_tenant() -> None:
    assert verified(ROLES).roles == ROLES
    for statement in (signed(ROLES, key=SigningKey.generate()), signed(ROLES, purpose=Purpose.POLICY)):
        with pytest.raises(InvalidSignature):
            verify_roles(statement, tenant=ACME, root_key=ROOT.public)
    with pytest.raises(Untrusted, match="another tenant"):
        verified(ROLES, tenant=MALLORY_TENANT)


def test_roles_that_follow_are_taken_also_when_versions_between_were_never_seen() -> None:
    new = RoleKey(Role.WEB, SigningKey.generate().public)
    ended = tuple(replace(row, until=200) if row.role is Role.WEB and not row.until else row for row in ROLES.keys)
    second = later(keys=(*ended, new))
    assert list(verified(second, seen=ROLES).roles.of(Role.WEB)) == [new.key]
    assert verified(later(second), seen=ROLES).roles.version == 3
    assert verified(second, seen=second).roles == second


@pytest.mark.parametrize(
    ("shown", "error", "why"),
    [
        (ROLES, Untrusted, "older"),
        (replace(later(), header=replace(TENANT, issued_at=NOW + 1)), Forked, "one version"),
        (later(later(), keys=ROLES.keys[1:]), Untrusted, "named before"),
        (later(later(), keys=(replace(ROLES.keys[0], role=Role.WORKER), *ROLES.keys[1:])), Untrusted, "named before"),
        (later(later(), keys=(*ROLES.keys[:-1], replace(ROLES.keys[-1], until=99))), Untrusted, "named before"),
        (later(later(), keys=(*ROLES.keys[:-1], replace(ROLES.keys[-1], until=101))), Untrusted, "named before"),
        (later(later(), keys=(*ROLES.keys[:-1], replace(ROLES.keys[-1], until=0))), Untrusted, "named before"),
        (later(later(), unsigned=(100, hash_of("head"))), Untrusted, "unsigned"),
    ],
    ids=[
        "rollback",
        "fork",
        "key dropped",
        "other role",
        "ended sooner",
        "ended later",
        "ends no more",
        "unsigned moved",
    ],
)
def test_roles_that_rewrite_what_was_seen_are_refused(shown: Roles, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        verified(shown, seen=later())


def test_size_below_which_entries_are_unsigned_stands_where_it_was_first_put() -> None:
    first = replace(ROLES, unsigned=(100, hash_of("head")))
    assert verified(later(first), seen=first).roles.unsigned == first.unsigned
    for moved in (None, (101, hash_of("head")), (100, hash_of("another head"))):
        with pytest.raises(Untrusted, match="unsigned"):
            verified(later(first, unsigned=moved), seen=first)


# Entries


@pytest.mark.parametrize(("tag", "role"), [(tag, role) for tag, roles in WRITERS.items() for role in roles])
def test_entry_is_believed_of_each_role_that_may_write_its_tag(tag: str, role: Role) -> None:
    entry = replace(READ, tag=tag)
    said = check_leaf(leaf_by(role, entry), index=5, roles=ROLES)
    assert (said.tag, said.entry_id, said.body) == (entry.tag, entry.entry_id, entry.body)


def test_log_key_signs_heads_and_writes_no_entry() -> None:
    assert all(Role.LOG not in roles and roles for roles in WRITERS.values())


def wrong(leaf: bytes, *, index: int = 5, roles: Roles = ROLES) -> str:
    with pytest.raises(WrongLeaf) as caught:
        check_leaf(leaf, index=index, roles=roles)
    return caught.value.why


def test_entry_is_refused_with_a_word_for_each_fault() -> None:
    genuine = leaf_by(Role.WEB)
    assert wrong(b"\xff") == "form"
    assert wrong(genuine + b"\0") == "form"
    assert wrong(READ.to_leaf()) == "unsigned"
    assert wrong(leaf_by(Role.WEB, key=SigningKey.generate())) == "key"
    assert wrong(leaf_by(Role.RELEASE)) == "role"
    assert wrong(leaf_by(Role.LOG)) == "role"
    assert wrong(leaf_by(Role.WEB, replace(READ, tag="audit:entries:invent"))) == "role"
    assert wrong(leaf_by(Role.WEB, key=OLD_WEB_KEY), index=100) == "key-ended"
    assert wrong(leaf_by(Role.WEB, origin=log_origin(str(UUID(bytes=MALLORY_TENANT)), "audit"))) == "signature"
    assert wrong(leaf_by(Role.WEB, origin=ORIGIN.replace("audit", "keys"))) == "signature"


def test_key_that_ended_vouches_for_what_stands_before_its_end() -> None:
    check_leaf(leaf_by(Role.WEB, key=OLD_WEB_KEY), index=99, roles=ROLES)


def test_signature_of_another_role_is_none_under_the_name_of_one_that_may() -> None:
    web, worker = (READ.signed(origin=ORIGIN, key=ROLE_KEYS[role]) for role in (Role.WEB, Role.WORKER))
    assert wrong(replace(web, signature=worker.signature).to_leaf()) == "signature"


def test_entry_without_signature_is_taken_below_the_size_that_the_root_pinned_and_not_above() -> None:
    roles = replace(ROLES, unsigned=(3, hash_of("head")))
    assert check_leaf(READ.to_leaf(), index=2, roles=roles) == READ
    assert wrong(READ.to_leaf(), index=3, roles=roles) == "unsigned"
    # Its form is checked at every index.
    assert wrong(b"\xff", index=2, roles=roles) == "form"


LEAF = leaf_by(Role.WEB)


@given(at=st.integers(0, len(LEAF) - 1), by=st.integers(1, 255))
def test_entry_with_any_one_byte_changed_is_refused(at: int, by: int) -> None:
    changed = LEAF[:at] + bytes((LEAF[at] ^ by,)) + LEAF[at + 1 :]
    with pytest.raises(WrongLeaf):
        check_leaf(changed, index=5, roles=ROLES)
