# SPDX-License-Identifier: Apache-2.0
"""A case seen from the device that asked: what any end leaves of it, and a veto that the log has to show."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.errors import NotPossible, NotYet, Problem, ProfileError, TrustRefused
from holdfast.client.officers import officer
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case, vetoes
from holdfast.client.recovery.by_case import OpenedCase, WrongShare
from holdfast.client.rotation import rotation
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.cases import Case, Veto
from holdfast.core.identity.entries import Reason
from holdfast.core.identity.roles import RoleKey
from holdfast.core.log import merkle
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Purpose, Sign1, sign
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import LyingServer, Tenant
from tests.cast.members import ALICE, BOB, Members
from tests.cast.statements import DAY
from tests.cast.unread import unread

WEB = SigningKey.generate()


@pytest.fixture
def world() -> Members:
    return Members(LyingServer(Tenant()))


# Any end frees the device.


@pytest.mark.parametrize("ended", ["denied", "vetoed", "expired", "cancelled", "held", "closed", "lost"])
def test_any_end_frees_the_device_and_its_secrets_go(ended: str, world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, first = world.case()
    before = tablet.state.case
    assert before is not None
    kept = [one.reveal() for one in (before.recipient_rsa, before.recipient_seed, before.new_identity)]
    if ended == "lost":
        # It never came to the server, or a backup was put back that lacks it.
        del world.server.cases[str(first.case_id)]
        world.server.instead[f"GET cases/{first.case_id}"] = lambda _body: refused(404, "not-found")
    else:
        world.server.cases[str(first.case_id)]["state"] = ended
        with pytest.raises(NotPossible, match=ended) as said:
            by_case.collect(tablet)
        assert "holdfast recover escrow open" in said.value.way_out
        assert tablet.state.case is None
    again = by_case.open_case(tablet, reason="again", purpose="recovery", subject=ALICE)
    assert again.case_id != first.case_id
    assert again.words != first.words
    after = tablet.state.case
    assert after is not None
    assert not {one.reveal() for one in (after.recipient_rsa, after.recipient_seed, after.new_identity)} & set(kept)


@pytest.mark.parametrize("ended", ["denied", "expired"])
def test_status_that_sees_the_end_destroys_the_keys(ended: str, world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.server.cases[str(opened.case_id)]["state"] = ended
    assert by_case.status(tablet).is_over
    assert tablet.state.case is None


@pytest.mark.parametrize("act", ["status", "collect"])
def test_keys_of_a_case_that_the_server_does_not_know_for_a_while_are_kept(
    act: str, world: Members, tmp_path: Path
) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    kept = tablet.state.case
    acts = {"status": lambda: by_case.status(tablet), "collect": lambda: by_case.collect(tablet)}
    world.server.instead[f"GET cases/{opened.case_id}"] = lambda _body: refused(404, "not-found")
    with pytest.raises(NotPossible, match="no such case") as said:
        acts[act]()
    assert "holdfast recover escrow cancel" in said.value.way_out
    assert tablet.state.case == kept
    world.server.instead.clear()
    assert by_case.status(tablet).case_id == opened.case_id
    world.server.instead[f".* cases/{opened.case_id}.*"] = lambda _body: refused(404, "not-found")
    assert by_case.cancel(tablet, reason="given up")[1] == "lost"
    assert tablet.state.case is None


@pytest.mark.parametrize(
    ("status", "is_kept"),
    [(400, False), (403, False), (422, False), (401, True), (409, True), (429, True), (500, True), (503, True)],
)
def test_keys_of_a_case_outlive_a_refusal_that_says_nothing_of_the_case(
    status: int, is_kept: bool, world: Members, tmp_path: Path
) -> None:
    world.depositor(tmp_path)
    tablet = world.enrolled(ALICE)
    tablet.api._sleep = lambda _seconds: None
    world.server.instead["POST cases"] = lambda _body: refused(status, "refused")
    with pytest.raises(Problem):
        by_case.open_case(tablet, reason="lost both", purpose="recovery", subject=ALICE)
    assert (tablet.state.case is not None) is is_kept


@pytest.mark.parametrize("by", ["collect", "cancel"])
@pytest.mark.parametrize("state", ["collected", "rotated", "sealed"])
def test_case_of_which_nothing_is_left_frees_the_device(state: str, by: str, world: Members, tmp_path: Path) -> None:
    """What was released is destroyed after 90 days, whether the device had opened it or not."""
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.server.cases[str(opened.case_id)]["state"] = state
    if by == "cancel":
        assert by_case.cancel(tablet, reason="too late") == (opened.case_id, state)
    else:
        with pytest.raises(NotPossible, match="left to collect") as said:
            by_case.collect(tablet)
        assert "free to ask anew" in said.value.way_out
    assert tablet.state.case is None
    assert by_case.open_case(tablet, reason="again", purpose="recovery", subject=ALICE).case_id != opened.case_id


def test_account_may_still_begin_again_once_what_was_collected_is_destroyed(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    for index in (1, 2):
        world.approve(index, opened)
    words = by_case.collect(tablet).words
    world.server.cases[str(opened.case_id)]["state"] = "collected"
    with pytest.raises(NotPossible, match="open on this device already") as said:
        by_case.collect(tablet)
    assert "recover escrow finish" in said.value.way_out
    assert by_case.status(tablet).identity_words == words
    assert by_case.cancel(tablet, reason="officers left") == (opened.case_id, "collected")
    assert tablet.state.case is None


@pytest.mark.parametrize("by", ["collect", "cancel", "open"])
def test_disclosure_that_ended_before_it_was_collected_frees_the_device(
    by: str, world: Members, tmp_path: Path
) -> None:
    bob, ask, opened = world.disclosing(tmp_path)
    world.now += 10 * DAY
    if by == "collect":
        with pytest.raises(NotPossible, match="has ended already"):
            by_case.collect(bob)
    if by == "cancel":
        by_case.cancel(bob, reason="too late")
    if by != "open":
        assert bob.state.case is None
    assert ask().case_id != opened.case_id


def test_device_keys_stay_while_a_case_is_open(world: Members, tmp_path: Path) -> None:
    """What is released is for the device as it asked: under other keys the server would not know it."""
    alice = world.depositor(tmp_path)
    by_case.open_case(alice, reason="lost the other", purpose="recovery", subject=ALICE)
    with pytest.raises(NotPossible, match="case open") as said:
        rotation.rotate(alice, [rotation.DEVICE], reason=Reason.USER_REQUEST)
    assert "recover escrow cancel" in said.value.way_out
    # The rest of the keys may go: they have no part in the case.
    before = alice.device.statement
    rotation.rotate(alice, rotation.EVERYTHING, reason=Reason.USER_REQUEST)
    assert alice.device.statement == before
    by_case.cancel(alice, reason="found it")
    world.server.instead[f"POST users/{alice.user_text}/chain"] = lambda _body: refused(503, "unavailable")
    with pytest.raises(Problem):
        rotation.rotate(alice, [rotation.DEVICE], reason=Reason.USER_REQUEST)
    with pytest.raises(NotPossible, match="being replaced"):
        by_case.open_case(alice, reason="lost the other", purpose="recovery", subject=ALICE)


def test_keys_of_a_case_that_the_server_may_have_taken_are_kept(world: Members, tmp_path: Path) -> None:
    """A fault after the commit: approvals that follow are sealed to these keys and no others."""
    world.depositor(tmp_path)
    tablet = world.enrolled(ALICE)
    for status, is_kept in ((503, True), (422, False)):

        def taking(body: Any, status: int = status) -> tuple[int, dict[str, Any]]:
            world.server.open_case("", body, None)
            return refused(status, "unavailable")

        world.server.instead["POST cases"] = taking
        with pytest.raises(Problem):
            by_case.open_case(tablet, reason="lost both", purpose="recovery", subject=ALICE)
        assert (tablet.state.case is not None) == is_kept
        if is_kept:
            assert by_case.status(tablet).state == "requested"
            by_case.cancel(tablet, reason="again")


def test_denied_device_asks_again_to_the_opened_key(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, first = world.case()
    world.approve(1, first)
    world.server.cases[str(first.case_id)]["state"] = "denied"
    again = by_case.open_case(tablet, reason="again", purpose="recovery", subject=ALICE)
    world.approve(1, again)
    world.approve(2, again)
    assert by_case.collect(tablet).generations == [1]


def test_status_says_what_ended_it_in_the_servers_words(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    shown = {"code": "denied", "text": "Officer 2 denied it.", "at": "2026-01-01T00:00:00Z"}
    world.server.lies[f"GET cases/{opened.case_id}"] = lambda answer: {**answer, "state": "denied", "ended": shown}
    found = by_case.status(tablet)
    assert (found.state, found.ended, found.is_over) == ("denied", "Officer 2 denied it.", True)
    assert not by_case.CaseStatus(opened.case_id, "awaiting-share", 2, 2, 0, "", "", "", (), ()).is_over


@pytest.mark.parametrize(("state", "said"), [("requested", "cancelled"), ("denied", "denied"), ("held", "held")])
def test_cancel_frees_the_device_however_the_case_ended(state: str, said: str, world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.server.cases[str(opened.case_id)]["state"] = state
    assert by_case.cancel(tablet, reason="found it") == (opened.case_id, said)
    assert tablet.state.case is None


def test_cancel_of_a_case_that_goes_on_keeps_its_keys(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    world.server.cases[str(opened.case_id)]["state"] = "released"
    with pytest.raises(Problem):
        by_case.cancel(tablet, reason="too late")
    assert tablet.state.case is not None


# A wrong share is laid to whoever holds it.


@pytest.mark.parametrize("approving", [2, 3])
def test_wrong_share_is_laid_to_its_officer_after_the_roster_was_renumbered(
    approving: int, world: Members, tmp_path: Path
) -> None:
    """A share's index is the deposit's own; people are numbered by the case's roster, on every screen."""
    world.depositor(tmp_path)
    house = world.server.tenant
    roster, by = house.officers[::-1], house.officers[:2]
    house.policies.append(house.sign_policy(roster, version=2, predecessor=house.policy_hash, signers=by))
    tablet, opened = world.case()
    for index in range(1, approving + 1):
        world.approve(index, opened)

    def spoiling(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [[name, index, b64u(bytes(80)) if index == 1 else box] for name, index, box in answer["shares"]]
        return {**answer, "shares": rows}

    world.server.lies[f"GET cases/{opened.case_id}/release"] = spoiling
    person = uuid.UUID(bytes=house.officers[0].person)
    if approving == 3:
        assert by_case.collect(tablet).blamed == [WrongShare(opened.deposits[0], person, 3)]
        return
    with pytest.raises(NotYet, match=f"Wrong are those of: officer 3 \\({person}\\)"):
        by_case.collect(tablet)
    # The server is told the share by the deposit's own index.
    assert world.server.cases[str(opened.case_id)]["blamed"] == [[str(opened.deposits[0]), [1]]]


# A veto is made when its inclusion is proven.


@dataclass
class VetoLog:
    """The server's side of one veto: takes it, logs it as the web process does, and proves it."""

    world: Members
    case_id: uuid.UUID
    signer: SigningKey = WEB
    change: Callable[[LogEntry], LogEntry] = lambda entry: entry
    statement: bytes = b""
    index: int = field(default=-1)

    def __post_init__(self) -> None:
        server = self.world.server
        tenant = server.tenant
        log, web = RoleKey(Role.LOG, tenant.log.public), RoleKey(Role.WEB, WEB.public)
        tenant.roles.append(tenant.sign_roles(log, web))
        server.instead[f"POST cases/{self.case_id}/veto"] = self.take
        server.instead[f"GET cases/{self.case_id}/veto"] = self.prove

    def take(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        server = self.world.server
        self.statement = self.statement or unb64u(body["statement"])
        signed = Sign1.parse(self.statement)
        device = str(uuid.UUID(bytes=Veto.from_payload(signed.payload).header.device))
        named: dict[str, str | int | bytes] = {"device": device, "ends": 1, "statement": signed.payload_hash}
        entry = LogEntry(uuid.uuid4().bytes, "recovery:case:veto", "device:x", b"", str(self.case_id), 1, named)
        leaf = self.change(entry).to_signed_leaf(origin=server.audit_name, key=self.signer)
        self.index = len(server.leaves)
        server.leaves.append(leaf)
        return 201, {**server._case(str(self.case_id)), "state": "vetoed"}

    def prove(self, _body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        server = self.world.server
        return 200, {
            "statement": b64u(self.statement),
            "leaf_index": self.index,
            "leaf": b64u(server.leaves[self.index]),
            "proof": [b64u(one) for one in merkle.inclusion_proof(server._hashes(), self.index)],
            "checkpoint": server.audit_note(),
        }


def asked(world: Members, tmp_path: Path) -> tuple[Account, OpenedCase]:
    """Alice's own laptop, and a case that somebody opened in alice's name."""
    laptop = world.depositor(tmp_path)
    _, opened = world.case()
    return laptop, opened


def test_veto_is_proven_to_be_in_the_log(world: Members, tmp_path: Path) -> None:
    laptop, opened = asked(world, tmp_path)
    log = VetoLog(world, opened.case_id)
    done = vetoes.veto(laptop, opened.case_id, reason="not me")
    assert (done.state, done.index, done.why_not) == ("vetoed", log.index, "")


def answering(answer: tuple[int, dict[str, Any]]) -> Callable[[Any], tuple[int, dict[str, Any]]]:
    return lambda _body: answer


def showing(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**answer, **changes}


def test_veto_hangs_on_nothing_but_the_case(world: Members, tmp_path: Path) -> None:
    """Whoever can make a deposit, a policy or a device not fit keeps nobody from forbidding a case."""
    laptop, opened = asked(world, tmp_path)
    log = VetoLog(world, opened.case_id)
    vetoes.veto(laptop, opened.case_id, reason="not me")  # by now the log's keys are pinned
    suspended = {"GET audit/roles": refused(500, "internal")}
    for path in ("escrow/policy", "escrow/key", "escrow/deposits/*", "devices/*", "users/*"):
        suspended[f"GET {path}"] = refused(401, "unauthenticated")
    for call, answer in suspended.items():
        world.server.instead[call] = answering(answer)
    with pytest.raises(Problem):
        officer.see(laptop, opened.case_id)
    done = vetoes.veto(laptop, opened.case_id, reason="not me")
    assert (done.state, done.index) == ("vetoed", log.index)


def test_veto_is_signed_for_a_case_about_this_account_alone(world: Members, tmp_path: Path) -> None:
    laptop, opened = asked(world, tmp_path)
    log, served = VetoLog(world, opened.case_id), f"GET cases/{opened.case_id}"
    case = Case.from_payload(Sign1.parse(unb64u(world.server._case(str(opened.case_id))["statement"])).payload)
    wrong = [
        replace(case, subject=BOB),
        replace(case, case_id=bytes(16)),
        replace(case, header=replace(case.header, tenant=bytes(16))),
    ]
    for one in wrong:
        lie = sign(unread(one), purpose=Purpose.CASE, key=laptop.signing_key).encode()
        world.server.lies[served] = partial(showing, statement=b64u(lie))
        with pytest.raises((ProfileError, TrustRefused)):
            vetoes.veto(laptop, opened.case_id, reason="not me")
    world.server.lies[served] = partial(showing, statement=b64u(b"x"))
    with pytest.raises(TrustRefused, match="no case"):
        vetoes.veto(laptop, opened.case_id, reason="not me")
    assert log.index == -1


def test_veto_that_is_not_in_the_log_yet_is_said_to_be_unproven(world: Members, tmp_path: Path) -> None:
    laptop, opened = asked(world, tmp_path)
    log = VetoLog(world, opened.case_id)
    world.server.instead[f"GET cases/{opened.case_id}/veto"] = lambda _body: refused(404, "veto-not-logged-yet")
    done = vetoes.veto(laptop, opened.case_id, reason="not me")
    assert (done.state, done.index) == ("vetoed", None)
    assert "does not show your veto yet" in done.why_not
    # The same command again finishes it; the server keeps the first statement.
    world.server.instead[f"GET cases/{opened.case_id}/veto"] = log.prove
    assert vetoes.veto(laptop, opened.case_id, reason="not me").index == log.index


def test_veto_that_the_log_does_not_vouch_for_is_refused(world: Members, tmp_path: Path) -> None:
    laptop, opened = asked(world, tmp_path)
    lies: dict[str, dict[str, Any]] = {
        "another statement": {"change": lambda entry: replace(entry, body={**entry.body, "statement": bytes(32)})},
        "another case": {"change": lambda entry: replace(entry, subject=str(uuid.uuid4()))},
        "another act": {"change": lambda entry: replace(entry, tag="recovery:case:cancel")},
        "another writer": {"signer": SigningKey.generate()},
    }
    log = VetoLog(world, opened.case_id)
    for what, lie in lies.items():
        log.signer, log.change, log.statement = WEB, lambda entry: entry, b""
        for name, value in lie.items():
            setattr(log, name, value)
        with pytest.raises(TrustRefused, match="does not vouch"):
            vetoes.veto(laptop, opened.case_id, reason=what)
    log.signer, log.change, log.statement = WEB, lambda entry: entry, b""
    for part, value in {"proof": [], "leaf_index": 3, "checkpoint": "x\n", "statement": b64u(b"x")}.items():

        def lying(body: dict[str, Any], part: str = part, value: Any = value) -> tuple[int, dict[str, Any]]:
            return 200, {**log.prove(body)[1], part: value}

        world.server.instead[f"GET cases/{opened.case_id}/veto"] = lying
        with pytest.raises(TrustRefused, match="does not vouch"):
            vetoes.veto(laptop, opened.case_id, reason=part)


def test_veto_signed_by_somebody_else_is_not_taken_for_ones_own(world: Members, tmp_path: Path) -> None:
    laptop, opened = asked(world, tmp_path)
    log = VetoLog(world, opened.case_id)
    other = Veto(laptop.header(), bytes(32), "x").to_payload()
    log.take({"statement": b64u(sign(other, purpose=Purpose.VETO, key=SigningKey.generate()).encode())})
    with pytest.raises(TrustRefused, match="does not vouch"):
        vetoes.veto(laptop, opened.case_id, reason="not me")
