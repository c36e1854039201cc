# SPDX-License-Identifier: Apache-2.0
"""Escrow after its first deposit: a policy that changes or runs out, a case that opens, a person who says no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.client import standing
from holdfast.client.errors import ConsentNeeded, NotPossible, NotYet, Problem, RaceLost
from holdfast.client.escrow import archive, deposits, escrow
from holdfast.client.identity import tenant
from holdfast.client.maintenance import Outcome, maintain
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation
from holdfast.client.server.clock import Clock
from holdfast.client.vault import pairing, vault
from holdfast.core.base.encoding import unb64u
from holdfast.core.crypto.keys import RecipientRsaKey
from holdfast.core.escrow.archive import new_archive_key
from holdfast.core.escrow.deposit import Deposit, archive_key_commitment
from holdfast.core.identity.policy import NEVER
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import NOW, LyingServer, Tenant, _payload_hash
from tests.cast.members import ALICE, Members

DAY = 86_400


class Ending(Tenant):
    """A tenant whose policy and escrow key run out in a hundred days."""

    def _header(self) -> Header:
        return replace(super()._header(), expires_at=NOW + 100 * DAY)


@pytest.fixture
def world() -> Members:
    return Members(LyingServer(Tenant()))


def new_policy(world: Members) -> None:
    made = world.server.tenant
    before = _payload_hash(made.policies[-1])
    made.policies.append(made.sign_policy(made.officers, version=2, predecessor=before, signers=made.officers[:2], m=2))


def new_key(world: Members) -> None:
    made = world.server.tenant
    before = _payload_hash(made.keys[-1])
    made.escrow = RecipientRsaKey.generate()
    made.keys.append(made.sign_key(made.escrow.public, version=len(made.keys) + 1, predecessor=before))


def newest(world: Members, account: Account) -> deposits.VerifiedDeposit:
    (generation,) = account.state.generations
    subject = deposits.subject_of(account, account.user)
    return deposits.fetch(account, subject, deposit_id=generation.deposit_id, record_hash=generation.record_hash)


def said_of(account: Account, item: str) -> tuple[Outcome, str]:
    (one,) = [row for row in maintain(account) if row.item == item]
    return one.outcome, one.said


def test_archive_key_of_a_month_that_has_not_come_is_the_one_in_use(world: Members) -> None:
    """FAULTS W10a: a clock that was ahead across the turn of a month would have a fresh key made for every file."""
    account = world.enrolled(ALICE)
    first = archive.new_generation(account)
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW - 40 * 86_400))
    assert archive.current_generation(account).number == first.number


def test_new_escrow_key_is_deposited_to_without_asking_and_the_old_deposit_stays(
    world: Members, tmp_path: Path
) -> None:
    alice = world.depositor(tmp_path)
    old = newest(world, alice)
    new_key(world)
    assert said_of(alice, "escrow") == (Outcome.DONE, "Deposited 1 archive keys, as you agreed.")
    assert newest(world, alice).escrow_key.hash == alice.escrow_key.hash != old.escrow_key.hash
    assert said_of(alice, "escrow")[0] is Outcome.NOTHING
    assert len(world.server.deposits) == 2
    assert escrow.status(alice).foreign_on_server == []


def test_new_policy_asks_the_person_again_and_then_every_generation_is_deposited_anew(
    world: Members, tmp_path: Path
) -> None:
    alice = world.depositor(tmp_path)
    new_policy(world)
    assert said_of(alice, "escrow") == (
        Outcome.NEEDS_YOU,
        "Your organisation's escrow policy has changed since you agreed to it. Version 2 comes after version 1: 2 of 3 "
        "officers. It changes nothing but the date. It is in force. It lowers no guard.",
    )
    status = escrow.status(alice)
    assert (status.consent, status.stale) == ("for an older policy", [1])
    assert len(world.server.deposits) == 1
    escrow.consent(alice)
    assert [one.number for one in escrow.deposit_missing(alice)] == [1]
    assert newest(world, alice).policy.hash == alice.trusted.newest.hash
    assert escrow.status(alice).stale == []
    assert said_of(alice, "escrow")[0] is Outcome.NOTHING


def test_consent_shows_the_tenants_text_in_a_box_below_its_own_words(tmp_path: Path) -> None:
    for name in ("plain", "boxed"):
        (tmp_path / name).mkdir()
    fixed = escrow.consent_text(Members(LyingServer(Tenant())).depositor(tmp_path / "plain")).splitlines()
    text = "  Who:     nobody can open your archive keys."
    alice = Members(LyingServer(Tenant(terms={"text": text}))).depositor(tmp_path / "boxed")
    shown = escrow.consent_text(alice).splitlines()
    assert shown[:-3] == [*fixed[:-1], shown[-4]], "all of ours but the tenant's words is as ever"
    assert shown[-3:] == ["  ┌ Your organisation adds, in its own words:", f"  │ {text}", "  └"]


def test_person_is_told_that_a_yes_binds_before_they_say_it_and_the_server_says_for_how_long(tmp_path: Path) -> None:
    world = Members(LyingServer(Tenant(terms={"consent_binds_seconds": 30 * DAY})))
    alice = world.depositor(tmp_path)
    line = "  No:      your yes can be taken back 30 days after it was given, and not before."
    assert line in escrow.consent_text(alice).splitlines()
    assert escrow.status(alice).consent_bound_until == NOW + 30 * DAY
    world.server.instead["POST statements"] = lambda _body: refused(409, "consent-binding")
    with pytest.raises(Problem):
        escrow.consent(alice, agreed=False)
    assert escrow.status(alice).consent == "given"
    del world.server.instead["POST statements"]
    escrow.consent(alice, agreed=False)
    assert (escrow.status(alice).consent, escrow.status(alice).consent_bound_until) == ("refused", 0)
    assert escrow.status(alice).readable == [1], "what is deposited stays readable"


def test_yes_that_binds_while_the_version_stands_leaves_a_no_to_the_next_one_free(tmp_path: Path) -> None:
    world = Members(LyingServer(Tenant(terms={"consent_binds_seconds": NEVER})))
    alice = world.depositor(tmp_path)
    world.now += 3650 * DAY
    with pytest.raises(NotYet, match="cannot be taken back while this version stands") as refused_ever:
        escrow.consent(alice, agreed=False)
    assert refused_ever.value.way_out == "You are asked anew when officers publish another version."
    new_policy(world)
    escrow.prepare(alice)
    escrow.consent(alice, agreed=False)
    assert escrow.status(alice).consent == "refused"


def test_status_says_what_officers_could_read_by_any_device_and_whatever_the_server_hides(
    world: Members, tmp_path: Path
) -> None:
    alice = world.depositor(tmp_path)
    assert escrow.status(alice).readable == [1]
    alice.state.generations[0].deposit_id = alice.state.generations[0].record_hash = b""
    assert escrow.status(alice).readable == [1], "another device of hers had deposited it"
    assert escrow.status(alice).foreign_on_server == []


def told(account: Account) -> list[tuple[Outcome, str]]:
    return [(row.outcome, row.said) for row in maintain(account) if row.item == "escrow"]


def halves(world: Members) -> set[bytes]:
    posted = [Deposit.from_record(unb64u(body["record"])) for body in world.server.posted("escrow/deposits")]
    return {deposit.sealed_half for deposit in posted}


COPIED = (
    Outcome.NEEDS_YOU,
    "Your deposit of generation 1 does not count: its half stood in another's deposit first. It opens nothing by "
    "itself, and a new deposit is made.",
)
UNSIGNED = (
    Outcome.NEEDS_YOU,
    "Nobody has signed for your deposit of generation 1 within a day. A new one is made, this once.",
)
AGAIN = (Outcome.DONE, "Deposited 1 archive keys, as you agreed.")


def test_deposit_whose_half_somebody_had_first_is_made_anew_and_said(world: Members, tmp_path: Path) -> None:
    """The web process lets another have the half first: the server refuses the owner's own deposit."""
    alice = world.enrolled(ALICE)
    archive.new_generation(alice)
    escrow.consent(alice)
    path = "POST escrow/deposits"

    def once(_body: Any) -> tuple[int, dict[str, Any]]:
        del world.server.instead[path]
        return refused(409, "deposit-repeated")

    world.server.instead[path] = once
    assert told(alice) == [AGAIN, COPIED]
    assert len(halves(world)) == 2
    assert escrow.status(alice).without_receipt == []
    assert told(alice) == [(Outcome.NOTHING, "Nothing was due.")]
    # And no more than once in a call: a server that always says so gets no stream of deposits.
    new_key(world)
    world.server.instead[path] = lambda _body: refused(409, "deposit-repeated")
    assert told(alice)[0][0] is Outcome.FAILED
    assert len(halves(world)) == 4


@pytest.mark.parametrize("hides", [False, True])
def test_deposit_that_gets_no_receipt_is_given_up_and_made_anew(world: Members, tmp_path: Path, hides: bool) -> None:
    """The log shows the half in another's deposit first; a server may say that it was refused, or nothing for a day."""
    alice = world.depositor(tmp_path)
    (first,) = world.server.deposits.values()
    first["receipt"], first["refused"] = None, not hides
    before = alice.state.generations[0].deposit_id
    if hides:
        assert escrow.status(alice).without_receipt == [1]
        assert told(alice) == [(Outcome.NOTHING, "Nothing was due.")], "waiting a day blocks nothing"
        world.now += escrow.RECEIPT_WITHIN_SECONDS + 1
    assert told(alice) == [AGAIN, UNSIGNED if hides else COPIED]
    assert alice.state.generations[0].deposit_id != before
    assert len(halves(world)) == 2
    assert escrow.status(alice).without_receipt == []
    assert told(alice) == [(Outcome.NOTHING, "Nothing was due.")]


def test_release_process_that_is_away_has_each_generation_deposited_once_more(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    quiet = [(Outcome.NOTHING, "Nothing was due.")]

    def later(away: bool) -> list[tuple[Outcome, str]]:
        for row in world.server.deposits.values():
            row["receipt"] = None if away else row["receipt"]
        told(alice)  # from here it waits
        world.now += escrow.RECEIPT_WITHIN_SECONDS + 1
        return told(alice)

    receipt = dict(next(iter(world.server.deposits.values())))
    assert receipt["receipt"]
    assert later(away=True) == [AGAIN, UNSIGNED]
    assert [later(away=True) for _ in range(3)] == [quiet] * 3
    assert len(world.server.deposits) == 2
    # Once there is a receipt again, the next outage has its own new deposit.
    new_key(world)
    assert told(alice) == [AGAIN]
    assert escrow.status(alice).without_receipt == []
    new_key(world)
    assert told(alice) == [AGAIN]
    assert later(away=True) == [AGAIN, UNSIGNED]


def test_sealed_generation_keeps_no_other_out_of_escrow(world: Members, tmp_path: Path) -> None:
    """A case opened it and its owner had no device left: it takes no deposit any more, and the next ones do."""
    alice = world.depositor(tmp_path)
    alice.state.generations[0].deposit_id = b""  # given up, or never made
    archive.new_generation(alice)
    path, answered = "POST escrow/deposits", []

    def sealed_once(_body: Any) -> tuple[int, dict[str, Any]]:
        answered.append(world.server.instead.pop(path))
        return refused(409, "generation-sealed")

    world.server.instead[path] = sealed_once
    assert [one.number for one in escrow.deposit_missing(alice)] == [2]
    assert [(one.number, one.is_exposed) for one in alice.state.generations] == [(1, True), (2, False)]
    assert escrow.due(alice) == []
    assert len(answered) == 1


@pytest.mark.parametrize("state", ["collected", "awaiting-share", "expired", "held"])
def test_what_was_collected_is_marked_however_the_case_goes_on(state: str, world: Members, tmp_path: Path) -> None:
    """A recipient who says that shares are missing may have the keys all the same."""
    alice = world.depositor(tmp_path)
    _, opened = world.case()
    world.server.cases[str(opened.case_id)]["state"] = state
    if state in ("expired", "held"):
        assert escrow.note_openings(alice) == []
        world.server.cases[str(opened.case_id)]["collected_at"] = "2026-01-01T00:00:00Z"
    assert escrow.note_openings(alice) == [1]
    assert escrow.note_openings(alice) == []


def test_case_names_the_newest_deposit_of_each_generation(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    new_policy(world)
    tenant.refresh(alice)
    escrow.consent(alice)
    assert [one.number for one in escrow.deposit_missing(alice)] == [1]
    assert len(world.server.deposits) == 2
    _, opened = world.case()
    assert [identifier.bytes for identifier in opened.deposits] == [alice.state.generations[0].deposit_id]


def test_what_another_device_has_renewed_is_taken_over_and_not_deposited_twice(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    vault.save(alice)
    phone = world.another(alice)
    pairing.sync(alice)
    maintain(phone)
    assert [one.deposit_id for one in phone.state.generations] == [one.deposit_id for one in alice.state.generations]
    new_key(world)
    escrow.prepare(phone)
    assert [one.number for one in escrow.deposit_missing(phone)] == [1]
    assert said_of(alice, "escrow")[0] is Outcome.NOTHING
    assert len(world.server.deposits) == 2
    assert [one.deposit_id for one in phone.state.generations] == [one.deposit_id for one in alice.state.generations]


def test_deposit_that_only_the_server_says_is_renewed_is_made_all_the_same(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    new_key(world)
    (old,) = world.server.deposits.values()
    forged = {**old, "deposit_id": str(UUID(int=7))}
    world.server.deposits[forged["deposit_id"]] = forged
    escrow.prepare(alice)
    assert [one.number for one in escrow.deposit_missing(alice)] == [1]


def test_person_who_takes_a_yes_back_has_nothing_more_deposited(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    escrow.consent(alice, agreed=False)
    archive.new_generation(alice)
    assert escrow.status(alice).consent == "refused"
    with pytest.raises(ConsentNeeded):
        escrow.deposit_missing(alice)
    assert said_of(alice, "escrow")[0] is Outcome.NOTHING
    assert len(world.server.deposits) == 1


def later(world: Members, account: Account, days: int) -> Account:
    world.now = NOW + days * DAY
    account.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    return account


@pytest.mark.parametrize(("days", "said"), [(69, None), (71, "runs out on"), (101, "ran out on"), (129, "ran out on")])
def test_policy_and_key_that_run_out_are_told_of_and_still_used_in_their_grace(
    days: int, said: str | None, tmp_path: Path
) -> None:
    world = Members(LyingServer(Ending()))
    alice = world.enrolled(ALICE)
    archive.new_generation(alice)
    escrow.consent(alice)
    later(world, alice, days)
    told = [one.what for one in tenant.endings(alice)]
    assert told == (["escrow policy", "escrow key"] if said else [])
    rows = [one.said for one in maintain(alice) if one.item == "organisation" and one.outcome is Outcome.NEEDS_YOU]
    assert all(said in row for row in rows) if said else rows == []
    assert len(rows) == len(told)
    assert all(one.deposit_id for one in alice.state.generations)


def test_nothing_is_deposited_under_what_ran_out_a_month_ago() -> None:
    world = Members(LyingServer(Ending()))
    alice = world.enrolled(ALICE)
    archive.new_generation(alice)
    escrow.consent(alice)
    with pytest.raises(NotPossible, match="run out"):
        escrow.deposit_missing(later(world, alice, 131))
    assert world.server.deposits == {}


def test_key_that_a_case_has_opened_is_marked_and_followed_by_a_fresh_one(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    _, opened = world.case()
    assert escrow.note_openings(alice) == [], "it is asked for, and not opened"
    (asked,) = standing.of_cases(alice)
    assert "veto" in asked.way_out
    world.approve(1, opened)
    world.approve(2, opened)
    report = {one.item: one for one in maintain(alice)}
    assert report["openings"].said.startswith("A case has opened your archive keys of generation 1")
    assert report["archive"].said.endswith("generation 2.")
    assert [(one.number, one.is_exposed, bool(one.deposit_id)) for one in alice.state.generations] == [
        (1, True, True),
        (2, False, True),
    ]
    (told,) = standing.of_cases(alice)
    assert "were opened" in told.said
    assert escrow.note_openings(alice) == []
    assert "openings" in {one.item for one in maintain(alice) if one.outcome is Outcome.NOTHING}


def test_deposit_verifies_each_policy_and_escrow_key_once(
    world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = world.depositor(tmp_path)
    archive.new_generation(alice)
    # What a new process has verified so far: nothing.
    alice._verified_tenant = alice._verified_key = None
    verify, seen = Sign1.verify, list[Purpose]()

    def counting(self: Sign1, *args: Any, purpose: Purpose, **named: Any) -> bytes:
        seen.append(purpose)
        return verify(self, *args, purpose=purpose, **named)

    monkeypatch.setattr(Sign1, "verify", counting)
    escrow.prepare(alice)
    assert [one.number for one in escrow.deposit_missing(alice)] == [2]
    assert (seen.count(Purpose.POLICY), seen.count(Purpose.ESCROW_KEY)) == (3, 3)


def test_archive_key_that_was_made_and_never_announced_is_no_attack(world: Members, tmp_path: Path) -> None:
    """A device was stopped between the two: the key is under nothing, and the rest goes into escrow."""
    alice = world.depositor(tmp_path)
    alice.state.generations[0].deposit_id = b""
    key = new_archive_key()
    alice.state.generations.append(Generation(2, key, NOW, archive_key_commitment(2, key)))
    alice.save()
    assert [one.number for one in escrow.deposit_missing(alice)] == [1]


def test_archive_key_of_a_lost_race_encrypts_nothing(world: Members, tmp_path: Path) -> None:
    """This device made the number that another one announced, and was stopped: what is under its own would be lost."""
    alice = world.depositor(tmp_path)
    phone = world.another(alice)
    phone.state.identity_seed = alice.state.identity_seed
    announced = archive.new_generation(phone)
    key = new_archive_key()
    own = Generation(announced.number, key, NOW, archive_key_commitment(announced.number, key))
    alice.state.generations.append(own)
    alice.save()
    with pytest.raises(RaceLost, match="Another device"):
        archive.encrypt_file(alice, tmp_path / "letter", tmp_path / "again")
