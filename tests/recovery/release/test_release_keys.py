# SPDX-License-Identifier: Apache-2.0
"""To which key of the release process officers seal, when a version names another one while a case is open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.core.crypto.keys import PublicKey
from recovery.models import Case
from tests.cast.founded import Hsm
from tests.cast.world import World
from tests.recovery.release.test_believed import living, settled

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def name_new_keys(world: World) -> tuple[PublicKey, PublicKey]:
    """Give the release process new keys, and put them in force; returns the old X-Wing key and the new."""
    before = world.terms.release_sealing_key
    (world.release.path / "keys" / "newest").unlink()
    made = world.release.create_keys()
    world.terms = replace(world.terms, release_signing_key=made.signing_key, release_sealing_key=made.sealing_key)
    world.publish(world.policy(m=2), signers=world.founders.values())
    return before, made.sealing_key


def test_shares_sealed_to_the_key_of_before_and_to_the_newest_are_both_opened(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    assert world.approve(case, "carol", deposit).status_code == 201
    before, newest = name_new_keys(world)
    assert world.release_key() == newest != before
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_case_waits_for_a_key_that_is_missing_and_no_share_is_destroyed(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    before, _ = name_new_keys(world)
    for name in ("carol", "dan"):
        document = world.signed_approval(case, name, [deposit], release_key=before)
        assert world.directory.phone(name).send("POST", f"{case.path}/approvals", document).status_code == 201
    kept = world.release._key_file(before)
    aside = kept.rename(kept.with_suffix(".aside"))
    world.sequence()
    with living(world) as process:
        settled(process)
        assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "release-key-missing", 0)
    aside.rename(kept)
    Case.unscoped.filter(id=case.id).update(release_at=world.row(case).opened_at)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
