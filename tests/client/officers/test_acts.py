# SPDX-License-Identifier: Apache-2.0
"""An officer's acts outside cases, against a server that lies: what is shown is what is signed, and the log decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.cli.commands.officer import acts as act_commands
from holdfast.cli.commands.officer import cases as case_commands
from holdfast.cli.shell import unstyled
from holdfast.client.errors import NotPossible, ProfileError, TrustRefused, WrongInput
from holdfast.client.escrow import archive
from holdfast.client.identity import heads
from holdfast.client.officers import acts, audit_head, section
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.acts import MAX_AGE_SECONDS, Act, OfficerState, Resolution, Standing
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import leaf_hash
from holdfast.core.signed.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.signed.payloads import Header
from tests.cast.lying_server import NOW, TENANT, text
from tests.cast.members import ALICE, BOB, Members
from tests.client.officers.test_joining import become


def officer(world: Members, number: int = 1) -> Account:
    founder = world.server.tenant.officers[number - 1]
    return world.enrolled(founder.person, founder)


def person(world: Members, number: int) -> bytes:
    return world.server.tenant.officers[number - 1].person


def forged(world: Members, *about: Any, act: Act = Act.RETURN_OFFICER, by: int = 2, **changes: Any) -> Sign1:
    """A resolution that officer `by` has signed, whatever it says."""
    made = Resolution(Header(TENANT, b"", b"", NOW), act, about, world.server.tenant.policy_hash, bytes(16))
    key = world.server.tenant.officers[by - 1].signing_key
    return sign(replace(made, **changes).to_payload(), purpose=Purpose.RESOLUTION, key=key)


def served(world: Members, *signed: Sign1) -> None:
    """Have the server show these signatures as one open resolution."""
    row = {"resolution_id": str(UUID(int=7)), "statement": b64u(encode_many(signed)), "state": "open"}
    world.server.lies["GET escrow/resolutions"] = lambda _: {"resolutions": [row], "more": False}


def remembered(world: Members, account: Account, size: int | None = None) -> None:
    account.state.trust.checkpoints[world.server.audit_name] = world.server.audit_note(size)


# Standing


@pytest.mark.parametrize(
    ("standing", "of"), [(Standing.AWAY, 1), (Standing.BACK, 1), (Standing.SUSPENDED, 2), (Standing.REMOVED, 3)]
)
def test_word_is_signed_as_shown(world: Members, standing: Standing, of: int) -> None:
    account = officer(world)
    said = acts.word(account, standing, of="" if of == 1 else str(of), reason="because")
    assert (said.officer.index, said.officer.person) == (of, person(world, of))
    acts.say(account, said)
    (sent,) = world.server.words
    key = world.server.tenant.officers[0].signing_key.public
    read = OfficerState.from_payload(sent.verify(key, purpose=Purpose.OFFICER_STATE))
    assert (read.person, read.standing, read.reason) == (person(world, of), standing, "because")


def test_officer_is_found_by_number_or_person_and_nobody_else_is(world: Members) -> None:
    account = officer(world)
    by_id = acts.word(account, Standing.SUSPENDED, of=str(UUID(bytes=person(world, 3))), reason="x")
    assert by_id.officer.index == 3
    for named in ("4", "0", str(UUID(bytes=ALICE)), "dan"):
        with pytest.raises(WrongInput, match="no such officer"):
            acts.word(account, Standing.SUSPENDED, of=named, reason="x")
    with pytest.raises(NotPossible, match="themselves"):
        acts.word(account, Standing.SUSPENDED, of="1", reason="x")


def test_suspension_without_a_reason_is_not_sent(world: Members) -> None:
    account = officer(world)
    with pytest.raises(NotPossible, match="cannot be signed"):
        acts.say(account, acts.word(account, Standing.SUSPENDED, of="2", reason=" "))
    assert not world.server.words


def test_member_says_nothing(world: Members) -> None:
    with pytest.raises(ProfileError, match="holds no officer's keys"):
        acts.word(world.enrolled(ALICE), Standing.AWAY)


def test_version_that_the_server_published_later_is_not_signed_under_yet(world: Members) -> None:
    account, tenant = officer(world), world.server.tenant
    second = tenant.sign_policy(tenant.officers, version=2, predecessor=tenant.policy_hash, signers=tenant.officers)
    tenant.policies.append(second)
    assert acts.policy_in_force(account).policy.version == 2
    world.server.in_force_from = "2030-01-01T00:00:00Z"
    assert acts.policy_in_force(account).policy.version == 1


# Resolutions


def test_resolution_is_proposed_listed_found_by_its_hash_and_signed_as_shown(world: Members) -> None:
    first = acts.propose_return(officer(world), "3")
    done = acts.sign_decision(officer(world), first)
    assert (done.state, done.signed, done.needed) == ("open", 1, 2)
    second = officer(world, 2)
    (listed,) = acts.list_resolutions(second)
    assert ([one.index for one in listed.signers], listed.needed) == ([1], 2)
    found = acts.find_resolution(second, done.hash.hex()[:8].upper())
    assert found.payload == first.payload
    assert acts.sign_decision(second, found).state == "passed"
    assert {signed.payload for signed in world.server.resolutions[done.hash].statements} == {first.payload}
    assert acts.list_resolutions(second) == []
    assert len(acts.list_resolutions(second, everything=True)) == 1


def test_whom_it_returns_does_not_sign(world: Members) -> None:
    account = officer(world, 3)
    with pytest.raises(NotPossible, match="about you"):
        acts.sign_decision(account, acts.propose_return(account, "3"))
    assert not world.server.resolutions


def test_resolution_is_named_by_hex_digits_enough_to_tell_it(world: Members) -> None:
    account = officer(world)
    acts.sign_decision(account, acts.propose_return(account, "3"))
    for prefix, why in (("abc", "four or more"), ("not-hex!", "four or more"), ("00000000", "no open resolution")):
        with pytest.raises(WrongInput, match=why):
            acts.find_resolution(account, prefix)


@pytest.mark.parametrize("lie", ["outsider", "policy", "person", "version", "tenant", "ended", "purpose", "mixed"])
def test_resolution_that_does_not_hold_is_shown_to_nobody(world: Members, lie: str) -> None:
    account, third = officer(world), person(world, 3)
    lies: dict[str, Any] = {
        "policy": lambda: [forged(world, third, policy_hash=bytes(32))],
        "person": lambda: [forged(world, ALICE)],
        "version": lambda: [forged(world, 2, world.server.tenant.policy_hash, act=Act.WITHDRAW_VERSION)],
        "tenant": lambda: [forged(world, third, header=Header(bytes(16), b"", b"", NOW))],
        "ended": lambda: [forged(world, third, header=Header(TENANT, b"", b"", NOW - MAX_AGE_SECONDS - 1))],
        "mixed": lambda: [forged(world, third), forged(world, third, by=1)],
    }
    if lie in lies and lie != "mixed":
        signed = lies[lie]()
    else:
        payload = forged(world, third).payload
        outsider = SigningKey.generate()
        by_outsider = sign(payload, purpose=Purpose.RESOLUTION, key=outsider)
        wrong = sign(payload, purpose=Purpose.POLICY, key=world.server.tenant.officers[1].signing_key)
        signed = {"outsider": [by_outsider], "purpose": [wrong], "mixed": [forged(world, third), by_outsider]}[lie]
    served(world, *signed)
    with pytest.raises(TrustRefused):
        acts.list_resolutions(account)
    with pytest.raises(TrustRefused):
        acts.find_resolution(account, signed[0].payload_hash.hex())


def test_suspension_of_a_device_is_shown_by_its_own_statement_and_signed_as_shown(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    decision = acts.propose_suspension(officer(world), UUID(bytes=laptop.device.id))
    assert (decision.resolution.person, decision.resolution.device) == (ALICE, laptop.device.id)
    text = " ".join(act_commands._lines(officer(world), decision))
    for said in (str(UUID(bytes=laptop.device.id)), str(UUID(bytes=ALICE)), "ends no case any more", "calls itself"):
        assert said in text, said
    done = acts.sign_decision(officer(world), decision)
    found = acts.find_resolution(officer(world, 2), done.hash.hex())
    assert found.device is not None
    assert found.device.header.device == laptop.device.id
    # Of another person than the device's own statement says: nobody signs it.
    bobs = world.enrolled(BOB)
    served(world, forged(world, ALICE, bobs.device.id, act=Act.SUSPEND_DEVICE))
    with pytest.raises(TrustRefused, match="of another person"):
        acts.list_resolutions(officer(world))


def test_officer_does_not_sign_the_suspension_of_their_own_device(world: Members) -> None:
    account = officer(world)
    decision = acts.propose_suspension(account, UUID(bytes=account.device.id))
    with pytest.raises(NotPossible, match="about you"):
        acts.sign_decision(account, decision)


def test_withdrawal_says_what_the_version_lowers_and_takes_none_that_is_in_force(world: Members) -> None:
    account, tenant = officer(world), world.server.tenant
    with pytest.raises(NotPossible, match="not waiting"):
        acts.propose_withdrawal(account, 1)
    second = tenant.sign_policy(
        tenant.officers, version=2, predecessor=tenant.policy_hash, signers=tenant.officers, m=2
    )
    tenant.policies.append(second)
    world.server.in_force_from = "2030-01-01T00:00:00Z"
    decision = acts.propose_withdrawal(account, 2)
    assert decision.resolution.hash == tenant.policy_hash
    said = " ".join(acts.meaning(account, decision))
    assert "version 2, signed on" in said
    assert "It lowers no guard" in said


# The log


def test_leaf_is_proven_and_its_words_are_those_of_its_bytes(world: Members) -> None:
    account = officer(world)
    for index in (0, 255, 256, 299):
        found = audit_head.leaf(account, index)
        assert found.hash == leaf_hash(world.server.leaves[index])
        assert found.entry == LogEntry.from_leaf(world.server.leaves[index])
    with pytest.raises(WrongInput, match="the last one is 299"):
        audit_head.leaf(account, 300)


def test_words_that_do_not_give_the_leafs_hash_are_the_servers_alone(world: Members) -> None:
    account = officer(world)

    def another(answer: Any) -> Any:
        answer["entries"][0]["tag"] = "harmless[/]:entry"
        return answer

    world.server.lies["GET audit/entries"] = another
    decision = acts.propose_acknowledgement(account, 7)
    assert decision.leaf is not None
    assert decision.leaf.entry is None
    lines = act_commands._lines(account, decision)
    assert any("not proven" in line for line in lines)
    told = next(line for line in lines if "harmless" in line)
    assert lines.index(told) > next(at for at, line in enumerate(lines) if "Hash:" in line)
    assert "“harmless[/]:entry" in unstyled(told)
    world.server.lies["GET audit/entries"] = lambda _: {"entries": [{"index": 7}]}
    assert audit_head.leaf(account, 7).entry is None
    world.server.lies["GET audit/entries"] = lambda _: {"entries": []}
    assert audit_head.leaf(account, 7).entry is None


def test_leaf_that_is_not_in_the_signed_log_is_refused(world: Members) -> None:
    account = officer(world)
    world.server.lies["GET tiles/audit/0/0"] = lambda _: {"octets": b64u(bytes(256 * 32))}
    with pytest.raises(TrustRefused, match="proof of entry 7"):
        acts.propose_acknowledgement(account, 7)


def test_head_of_another_key_is_refused(world: Members) -> None:
    account = officer(world)
    world.server.audit_key = SigningKey.generate()
    for call in (lambda: acts.propose_acknowledgement(account, 7), lambda: acts.propose_acceptance(account)):
        with pytest.raises(TrustRefused, match="does not hold"):
            call()
    account.state.trust.log_keys.clear()
    with pytest.raises(ProfileError, match="no log key pinned"):
        acts.propose_acceptance(account)


def test_resolution_about_another_leaf_or_root_than_the_logs_is_not_signed(world: Members) -> None:
    account = officer(world)
    for signed in (
        forged(world, 7, bytes(32), act=Act.ACKNOWLEDGE_LEAF),
        forged(world, 200, bytes(32), act=Act.ACCEPT_LOG),
        forged(world, 300, bytes(32), act=Act.ACCEPT_LOG),
        forged(world, 301, bytes(32), act=Act.ACCEPT_LOG),
        *(forged(world, *audit, *keys, act=Act.ACCEPT_LOG) for audit, keys in _wrong_pairs(world)),
    ):
        served(world, signed)
        with pytest.raises(TrustRefused, match=r"another hash|never had this root|has [0-9]+ entries"):
            acts.find_resolution(account, signed.payload_hash.hex())
    root = audit_head.head(account).checkpoint.root
    world.server.leaves.append(world.server.leaves[0])
    fine = forged(world, 300, root, act=Act.ACCEPT_LOG)
    served(world, fine)
    assert acts.find_resolution(account, fine.payload_hash.hex()).resolution.size == 300


def _wrong_pairs(world: Members) -> list[tuple[Any, Any]]:
    """What a restored backup's resolution says of both logs, one of them wrongly."""
    parts = world.server.both_logs()
    audit, keys = parts[:2], parts[2:]
    size = len(world.server.keys_log.leaves)
    return [(audit, (size, bytes(32))), (audit, (size + 1, bytes(32))), ((300, bytes(32)), keys)]


def test_acceptance_names_both_logs_as_they_are(world: Members) -> None:
    account = officer(world)
    decision = acts.propose_acceptance(account)
    assert decision.resolution.about == world.server.both_logs()
    assert [head.log for head in decision.heads] == ["audit", "keys"]
    said, keys = " ".join(acts.meaning(account, decision)), len(world.server.keys_log.leaves)
    assert "audit log of 300 entries" in said
    assert f"log of keys of {keys} are taken" in said
    shown = act_commands._document(decision)
    assert (shown["number"], shown["keys_number"]) == (300, keys)
    assert shown["keys_hash"] == decision.heads[1].checkpoint.root.hex()
    done = acts.sign_decision(account, decision)
    second = officer(world, 2)
    assert acts.sign_decision(second, acts.find_resolution(second, done.hash.hex()[:8])).state == "passed"
    # One that names the audit log alone is told apart.
    alone = acts.propose(account, Act.ACCEPT_LOG, *world.server.both_logs()[:2])
    assert "accepts no restored backup" in " ".join(acts.meaning(account, alone))


@pytest.mark.parametrize("lost", ["the chain's end", "the section's newest", "the section", "all but an old profile's"])
def test_officer_of_whom_the_server_lost_something_accepts_it_all_the_same(lost: str, world: Members) -> None:
    """Nothing is given back before m officers have accepted: their own keys are those that this profile has seen."""
    account = officer(world)
    become(account)
    if lost in ("the chain's end", "all but an old profile's"):
        archive.new_generation(account)
        world.server.chains[text(account.user)].pop()
        if lost == "all but an old profile's":
            account.store.delete(*section._KEPT)
    elif lost == "the section":
        world.server.sections.clear()
    else:
        seen = account.state.officers_section
        assert seen is not None
        account.state.officers_section = replace(seen, version=seen.version + 1)
    for decision, expected in ((acts.propose_acceptance, "open"), (_acknowledged, "refused")):
        try:
            state = acts.sign_decision(account, decision(account)).state
        except TrustRefused:
            state = "refused"
        assert state == expected


def _acknowledged(account: Account) -> acts.Decision:
    return acts.propose_acknowledgement(account, 7)


def test_log_of_keys_that_was_cut_or_rewritten_is_warned_of_loudly(world: Members) -> None:
    account = officer(world)
    log = world.server.keys_log
    account.state.trust.checkpoints[log.verifier().name] = log.checkpoint()
    whole = list(log.leaves)
    for changed, why in ((whole[:-1], "1 entries are gone"), ([*whole[1:], whole[0], whole[0]], "is not the one")):
        log.leaves = changed
        decision = acts.propose_acceptance(account)
        audit, keys = decision.heads
        assert (audit.warning, why in keys.warning) == ("", True)
        (line,) = [line for line in act_commands._lines(account, decision) if "WARNING" in line]
        assert "log of keys" in line
        assert act_commands._document(decision)["warning"] == keys.warning


def test_log_that_was_cut_or_rewritten_is_warned_of_loudly_and_acknowledged_never(world: Members) -> None:
    account = officer(world)
    remembered(world, account)
    assert audit_head.head(account) == replace(audit_head.head(account), seen=300, warning="")
    whole = list(world.server.leaves)
    for changed, why in ((whole[:200], "100 entries are gone"), (whole[1:] + whole[:2], "is not the one")):
        world.server.leaves = changed
        decision = acts.propose_acceptance(account)
        assert why in decision.heads[0].warning
        (line,) = [line for line in act_commands._lines(account, decision) if "WARNING" in line]
        assert "[bold red]" in line
        with pytest.raises(TrustRefused, match=why):
            acts.propose_acknowledgement(account, 7)


def test_log_that_officers_accepted_after_a_restored_backup_is_warned_of_no_more(world: Members) -> None:
    account = officer(world)
    remembered(world, account)
    kept = heads.own(account, heads.AUDIT)
    world.now += 3600
    world.server.leaves = world.server.leaves[:200]
    assert "100 entries are gone" in audit_head.head(account).warning
    assert world.server.shown_heads == [kept]
    world.server.accept(world.now, by=world.server.tenant.officers[:1])
    assert audit_head.head(account).warning
    world.server.accept(world.now)
    found = audit_head.head(account)
    assert (found.warning, found.seen, found.checkpoint.size) == ("", 200, 200)


def test_log_never_seen_before_is_said_to_be(world: Members) -> None:
    account = officer(world)
    decision = acts.propose_acceptance(account)
    assert any("remembers no earlier one" in line for line in act_commands._lines(account, decision))
    remembered(world, account, 100)
    decision = acts.propose_acceptance(account)
    assert any("100 entries seen before are in it" in line for line in act_commands._lines(account, decision))


# What the server says of the delay


def test_officer_is_told_that_the_subject_cannot_object_before_they_sign(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    _, opened = world.case()
    _, view = world.seen(1, opened.case_id)
    assert len(case_commands._told_lines(view)) == 1
    long = {"code": "unheard", "text": "The subject cannot object: gone.[/]"}
    world.server.lies[f"GET cases/{opened.case_id}"] = lambda answer: {**answer, "long_delay": long}
    _, view = world.seen(1, opened.case_id)
    told = unstyled(case_commands._told_lines(view)[-1])
    assert "“The subject cannot object: gone.[/]” By the policy: none." in told
