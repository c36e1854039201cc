# SPDX-License-Identifier: Apache-2.0
"""A log older than signatures: the release process believes the past that the tenant root pinned, and no other."""

from __future__ import annotations

import pytest

from audit.models import Entry, RolesStatement
from holdfast.core.base.errors import Forked
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.log import merkle
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from tests.cast.roles import found_roles
from tests.cast.world import World, as_superuser

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def pin(world: World, size: int, root: bytes) -> None:
    """Have the tenant root say anew, as if for the first time, below which head entries bear no signature."""
    row = RolesStatement.unscoped.filter(tenant_id=world.tenant_id).latest("version")
    keys: tuple[RoleKey, ...] = Roles.from_payload(Sign1.parse(bytes(row.statement)).payload).keys
    assert Role.LOG in {key.role for key in keys}
    with as_superuser("audit_rolesstatement") as cursor:
        cursor.execute("DELETE FROM audit_rolesstatement")
    (world.release.path / "roles").unlink(missing_ok=True)
    found_roles(world.tenant_id, keys=keys, unsigned=(size, root))


def numbered(world: World) -> list[bytes]:
    world.sequence()
    rows = Entry.unscoped.filter(tenant_id=world.tenant_id, log="audit", leaf_index__isnull=False)
    return [merkle.leaf_hash(bytes(leaf)) for leaf in rows.order_by("leaf_index").values_list("leaf", flat=True)]


def test_another_past_than_the_pinned_one_is_not_believed(world: World) -> None:
    log = numbered(world)
    pin(world, 3, merkle.root(log[:2] + log[3:4]))
    with pytest.raises(Forked):
        world.followed()
    pin(world, len(log) + 1, bytes(32))
    with pytest.raises(Forked, match="shorter"):
        world.followed()


def test_what_was_under_way_below_the_pinned_size_is_void(world: World) -> None:
    old, _ = world.approved("carol", "dan")
    log = numbered(world)
    pin(world, len(log), merkle.root(log))
    new, _ = world.approved("carol", "dan")
    world.sequence()
    cases = world.followed().facts.cases
    assert (cases[old.id.bytes].stage, cases[new.id.bytes].stage) == ("void", "waiting")
    world.tick()
    assert [(world.row(one).state, world.row(one).why) for one in (old, new)] == [("held", "voided"), ("released", "")]
