# SPDX-License-Identifier: Apache-2.0
"""The facts that are kept: the same as the log read anew, and not gone on from where they are another directory's."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from audit import services as audit
from holdfast.core.base.errors import Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.acts import Act, Resolution, Standing
from kernel.scope import tenant_scope
from recovery.release import kept, log
from recovery.release.clock import Clock, Moment
from recovery.release.directory import Directory, SeenHead
from recovery.release.facts import CaseFacts, Facts, LoggedDecision, Place, WrongEntry
from recovery.release.log import ReleaseLog
from tests.cast.founded import Hsm
from tests.cast.world import World, as_superuser
from tests.recovery.release.test_believed import follow, living, settled, veto_by_alice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]

KEY = SecretBytes(b"k" * 32)
HEAD_BYTES = struct.calcsize(">Q32sQQ")
NOT_SAID = ("statements", "known_wrong")


def said(facts: Facts) -> dict[str, Any]:
    """All that facts say, without whoever they ask for statements."""
    return {
        one.name: getattr(facts, one.name) for one in fields(facts) if one.name not in ("statements", "known_wrong")
    }


def opened(world: World) -> ReleaseLog:
    with tenant_scope(world.tenant_id):
        return ReleaseLog.open(world.release, Clock(world.home / "clock"))


def anew(world: World) -> ReleaseLog:
    """The log as it is read from its first entry."""
    world.release.forget_facts()
    return opened(world)


def filled(world: World) -> Facts:
    """Facts of which every field says something, about people and cases that there need not be."""
    facts = anew(world).facts
    a, b, c = (bytes([one]) * 16 for one in b"abc")
    moment, place = Moment(5, -7), Place(3, Moment(5, 6))
    facts.withdrawn[bytes(32)] = moment
    for name in ("officers", "active", "owners", "removed", "away", "seen", "used"):
        getattr(facts, name).update({a, b, bytes(32)})
    facts.suspended.update({a: 4, b: 5})
    facts.stopped[b] = 2
    facts.lost_keys[a] = frozenset({bytes(44), b"key"})
    # As an entry may have it that nobody held to any length.
    facts.deposits |= {a: bytes(32), b: b"", c: b"\1" * 33}
    for name in ("made_under", "halves", "half_owners"):
        getattr(facts, name).update({a: bytes(32), b: b"x"})
    facts.unreceipted |= {a: (9, bytes(32)), b: (10, b"")}
    facts.vetoes |= {a: [1, -2, 3], b: []}
    facts.enrolled_by |= {a: frozenset(), b: frozenset({a, c})}
    facts.sponsors |= {a: {b: 7, c: -1}, b: {}}
    presence = facts.presence
    presence.active.add(c)
    presence.owners[a] = b
    presence.acting |= {a: {b, c}, b: set()}
    presence.objecting_since[a] = 3
    facts.silenced.add((a, b))
    facts.is_shut, facts.opened_again, facts.unsigned = True, place, 2
    facts.locks.over.append((1, 2))
    facts.locks.since, facts.locks.asked, facts.locks.until = 0, 4, 5
    facts.wrong[7] = WrongEntry("unproven", bytes(32))
    facts.pending.append((Resolution(world.tenant_header(), Act.SUSPEND_DEVICE, (a, b), bytes(32), bytes(16)), place))
    facts.cases[a] = CaseFacts(
        q=bytes(32),
        policy_hash=bytes(32),
        subject=a,
        requester=b,
        recipient=c,
        place=place,
        recipient_device=a,
        behind=frozenset({a, b}),
        approvals={a: LoggedDecision(bytes(32), place)},
        used={(a, bytes(32)), (b, bytes(32))},
        told=moment,
        not_told=Moment(0, 0),
        stage="released",
        extra_officers=1,
        is_forbidden=True,
        is_veto_counted=True,
        objected=moment,
    )
    return facts


def test_everything_that_facts_say_is_kept(world: World, hsm: Hsm) -> None:
    """A field that is added and not kept fails here: whoever goes on from the file would believe less than the log."""
    world.approved("carol", "dan")
    world.sequence()
    world.followed()
    facts = filled(world)
    nothing = Facts(facts.tenant, facts.trust, facts.statements)
    for one, without in ((facts, nothing), (facts.presence, nothing.presence), (facts.locks, nothing.locks)):
        for name in (field.name for field in fields(one)):
            if name not in ("tenant", "trust", *NOT_SAID):
                assert getattr(one, name) != getattr(without, name), f"{name} says nothing here"
    head = world.release.heads()[-1]
    follower = opened(world).follower
    binding = kept.Binding(facts.tenant, facts.trust, bytes(32), None)
    file = io.BytesIO()
    kept.write(file, kept.Kept(3, head, follower, facts), key=KEY, binding=binding)
    file.seek(0)
    found = kept.read(file, Facts(facts.tenant, facts.trust, facts.statements), key=KEY, binding=binding)
    assert (found.heads, found.head, found.follower) == (3, head, follower)
    assert said(found.facts) == said(facts)
    # In their order as well: the oldest deposit gets its receipt first.
    for name in ("deposits", "unreceipted", "cases", "escrow_keys", "wrong"):
        assert list(getattr(found.facts, name)) == list(getattr(facts, name)), name


def test_process_goes_on_from_what_it_kept_and_reads_no_entry_twice(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, deposit = world.approved("carol", "dan")
    follow(world)
    world.stand("erin", Standing.AWAY)
    with tenant_scope(world.tenant_id):
        veto_by_alice(world, case)
    world.opened(deposit)
    follow(world)
    read: list[tuple[int, int]] = []
    entries_between = audit.entries_between

    def counted(tenant_id: UUID, name: str, start: int, stop: int) -> Any:
        read.append((start, stop))
        return entries_between(tenant_id, name, start, stop)

    monkeypatch.setattr(audit, "entries_between", counted)
    again, size = opened(world), world.release.heads()[-1].size
    # That the last one is there still.
    assert read == [(size - 1, size)]
    assert again.facts.cases[case.id.bytes].stage == "vetoed"
    from_log = anew(world)
    assert read[1:] == [(0, size)]
    assert (again.follower, said(again.facts)) == (from_log.follower, said(from_log.facts))
    # And what came since, from there on.
    world.stand("erin", Standing.BACK)
    world.sequence()
    assert world.followed().facts.away == set()
    assert read[2:] == [(size - 1, size), (size, world.release.heads()[-1].size)]


def test_entries_that_an_earlier_process_read_are_looked_at_again_a_part_at_a_time(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who changes what was read long ago changes nothing that is believed; it is an alarm all the same."""
    case, _ = world.approved("carol", "dan")
    follow(world)
    with as_superuser("audit_entry") as cursor:
        cursor.execute("UPDATE audit_entry SET leaf = %s WHERE log = 'audit' AND leaf_index = 3", [b"changed"])
    size = world.release.heads()[-1].size
    monkeypatch.setattr(log, "LOOKED_AT_AGAIN", size // 3)
    with living(world) as process:
        for _ in range(3):
            process.follow_all()
            assert process._tenants[world.tenant_id].log.facts.cases[case.id.bytes].stage == "waiting"
            assert "its log is not the one that was believed" not in caplog.text
        process.follow_all()
        assert "its log is not the one that was believed" in caplog.text
        assert world.tenant_id not in process._tenants
        settled(process)
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "log-changed", 0)


# What is not this directory's.


Harm = Callable[[World, Path], None]


def body_of(path: Path) -> list[bytes]:
    """The frames of a file, each with its length and its MAC."""
    found, octets = [], path.read_bytes()
    while octets:
        end = 4 + struct.unpack(">I", octets[:4])[0] + 32
        found.append(octets[:end])
        octets = octets[end:]
    return found


def flipped(at: float) -> Harm:
    def harm(world: World, aside: Path) -> None:
        octets = bytearray(world.release.facts.read_bytes())
        octets[int((len(octets) - 1) * at)] ^= 1
        world.release.facts.write_bytes(octets)

    return harm


def framed(change: Callable[[list[bytes]], list[bytes]]) -> Harm:
    def harm(world: World, aside: Path) -> None:
        world.release.facts.write_bytes(b"".join(change(body_of(world.release.facts))))

    return harm


def bound_of(world: World, log_: ReleaseLog) -> kept.Binding:
    with tenant_scope(world.tenant_id):
        return log_._binding(log_._signed_roles().hash)


def written(world: World, directory: Directory, **binding: Any) -> None:
    """Write what a liar would have believed, by a key that is right: the veto never was."""
    log_ = opened(world)
    for case in log_.facts.cases.values():
        case.stage, case.is_forbidden = "waiting", False
    bound = replace(bound_of(world, log_), **binding)
    heads = directory.heads()
    with directory.facts.open("wb") as file:
        found = kept.Kept(len(heads), heads[-1], log_.follower, log_.facts)
        kept.write(file, found, key=directory.facts_key(), binding=bound)


def forged(world: World, aside: Path) -> None:
    before = (world.release.path / "facts.key").read_bytes()
    (world.release.path / "facts.key").write_bytes(bytes(32))
    written(world, world.release)
    (world.release.path / "facts.key").write_bytes(before)


def lost_key(world: World, aside: Path) -> None:
    written(world, world.release)
    (world.release.path / "facts.key").unlink()


def short_key(world: World, aside: Path) -> None:
    written(world, world.release)
    (world.release.path / "facts.key").write_bytes(b"short")


def of_another_tenant(world: World, aside: Path) -> None:
    """Under the key of this directory: somebody copied it together with the facts."""
    written(world, world.release, tenant=b"t" * 16)


def of_another_root(world: World, aside: Path) -> None:
    written(world, world.release, trust=replace(world.release.trust(), pin=bytes(32)))


def by_other_roles(world: World, aside: Path) -> None:
    written(world, world.release, roles=bytes(32))


def of_a_first_reading(world: World, aside: Path) -> None:
    written(world, world.release, first_reading=world.release.heads()[-1])


def of_another_home(world: World, aside: Path) -> None:
    """Of the same tenant, log and key: a copy of this directory that saw the same head at another moment."""
    head = world.release.heads()[-1]
    mine = (world.release.path / "heads").read_bytes()
    world.release.put_heads([*world.release.heads()[:-1], replace(head, moment=Moment(1, 1))])
    opened(world)
    written(world, world.release)
    shutil.copy(world.release.facts, aside)
    shutil.copy(world.release.path / "facts.key", aside.with_suffix(".key"))
    (world.release.path / "heads").write_bytes(mine)
    shutil.copy(aside, world.release.facts)
    shutil.copy(aside.with_suffix(".key"), world.release.path / "facts.key")


def ahead_of_the_heads(world: World, aside: Path) -> None:
    heads = world.release.heads()
    ahead = SeenHead(heads[-1].size, heads[-1].root, heads[-1].moment)
    log_ = opened(world)
    bound = bound_of(world, log_)
    for case in log_.facts.cases.values():
        case.stage = "waiting"
    with world.release.facts.open("wb") as file:
        found = kept.Kept(len(heads) + 1, ahead, log_.follower, log_.facts)
        kept.write(file, found, key=world.release.facts_key(), binding=bound)


def by_other_rules(world: World, aside: Path) -> None:
    """An older version of the program made them, to which a veto said nothing."""
    rules, kept.rules = kept.rules, lambda: bytes(32)  # type: ignore[assignment]
    try:
        written(world, world.release)
    finally:
        kept.rules = rules


HARMS: dict[str, Harm] = {
    "first byte": flipped(0),
    "a byte of the head": flipped(0.01),
    "a byte in the middle": flipped(0.5),
    "last byte": flipped(1),
    "nothing in it": framed(lambda frames: []),
    "the last frame left out": framed(lambda frames: frames[:-1]),
    "a frame left out": framed(lambda frames: frames[:2] + frames[3:]),
    "two frames in each other's place": framed(lambda frames: [frames[0], frames[2], frames[1], *frames[3:]]),
    "a frame twice": framed(lambda frames: [*frames[:2], *frames[1:]]),
    "half a frame": framed(lambda frames: [*frames[:1], frames[1][:9]]),
    "a frame without end": framed(lambda frames: [*frames[:1], b"\xff\xff\xff\xff" + frames[1][4:]]),
    "forged": forged,
    "its key is gone": lost_key,
    "its key is damaged": short_key,
    "another tenant's": of_another_tenant,
    "another root's": of_another_root,
    "judged by other roles": by_other_roles,
    "of a first reading": of_a_first_reading,
    "another home's": of_another_home,
    "ahead of the heads": ahead_of_the_heads,
    "by other rules": by_other_rules,
}


def test_facts_that_are_not_this_directorys_are_followed_anew(
    world: World, hsm: Hsm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever lies there, the process comes to what the log says, and a veto is in it."""
    case, _ = world.approved("carol", "dan")
    with tenant_scope(world.tenant_id):
        veto_by_alice(world, case)
    follow(world)
    right = said(opened(world).facts)
    for what, harm in HARMS.items():
        harm(world, tmp_path / "aside")
        caplog.clear()
        found = opened(world)
        assert "its log is read from the beginning" in caplog.text, what
        assert said(found.facts) == right, what
        assert found.facts.cases[case.id.bytes].stage == "vetoed", what
        # The next start goes on from what was kept then.
        caplog.clear()
        assert said(opened(world).facts) == right, what
        assert caplog.text == "", what


def test_facts_that_were_rolled_back_take_back_nothing(world: World, hsm: Hsm, tmp_path: Path) -> None:
    """Right ones, of a head that this process saw: every entry since is read, and has to lead to the heads kept."""
    case, _ = world.approved("carol", "dan")
    follow(world)
    shutil.copy(world.release.facts, tmp_path / "before")
    with tenant_scope(world.tenant_id):
        veto_by_alice(world, case)
    follow(world)
    right = opened(world)
    shutil.copy(tmp_path / "before", world.release.facts)
    found = opened(world)
    assert found.facts.cases[case.id.bytes].stage == "vetoed"
    assert (found.follower, said(found.facts)) == (right.follower, said(right.facts))
    # The same under heads that were rolled back alone: facts beyond them are nobody's.
    heads = world.release.heads()
    (world.release.path / "heads").write_bytes(
        (world.release.path / "heads").read_bytes()[: -struct.calcsize(">Q32sQQ")]
    )
    assert world.release.heads() == heads[:-1]
    assert opened(world).follower.size == heads[-2].size


def test_first_start_after_the_log_was_accepted_reads_it_anew(world: World, hsm: Hsm) -> None:
    """ESCROW "What it believes of the log": what officers accepted decides what is believed, and no file of before."""
    world.approved("carol", "dan")
    follow(world)
    assert world.release.facts.exists()
    heads = world.release.heads()
    for accept in (
        lambda: world.release.put_heads(heads),
        lambda: world.release.accept_first_reading(replace(heads[-1], moment=Moment(9, 9))),
    ):
        opened(world)
        assert world.release.facts.exists()
        accept()
        assert not world.release.facts.exists()


def test_facts_judged_by_other_roles_are_kept_no_more_until_the_log_was_read_by_these(world: World, hsm: Hsm) -> None:
    """A key that the root has ended since wrote what it should not have: only who reads it again finds out."""
    world.approved("carol", "dan")
    world.sequence()
    with living(world) as process:
        process.follow_all()
        before = world.release.facts.read_bytes()
        living_log = process._tenants[world.tenant_id].log
        living_log._judged_by = bytes(32)
        world.stand("erin", Standing.AWAY)
        world.sequence()
        process.follow_all()
        process._followed = None
        process.tick()
        assert world.release.heads()[-1].size == living_log.follower.size
        assert not living_log._judged_by
        assert world.release.facts.read_bytes() == before


def test_disk_that_is_full_for_the_facts_stops_nothing(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill there leaves the same: the heads, and the facts of before or none."""
    world.approved("carol", "dan")
    world.sequence()

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(log, "durable_file", full)
        assert world.followed().is_whole
        assert "its facts could not be kept" in caplog.text
        assert not world.release.facts.exists()
    size = opened(world).follower.size
    assert size == world.release.heads()[-1].size
    assert world.release.facts.exists()


def test_receipt_that_a_restored_database_lost_is_given_anew(world: World, hsm: Hsm) -> None:
    """What is kept is what the log says, and not what this process did: its rows may be gone again."""
    world.deposit()
    world.sequence()
    with living(world) as process:
        process.follow_all()
        tenant = process._tenants[world.tenant_id]
        assert not tenant.owes_receipts
        assert len(tenant.log.facts.unreceipted) == 1
    assert len(opened(world).facts.unreceipted) == 1
    follow(world)
    assert opened(world).facts.unreceipted == {}


def test_leaves_are_taken_in_as_they_are_read(world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading of a log of millions of entries holds one batch of them, and not all."""
    world.approved("carol", "dan")
    world.sequence()
    happened: list[str] = []
    entries_between, absorb = audit.entries_between, Facts.absorb

    def read(*given: Any) -> Any:
        for leaf in entries_between(*given):
            happened.append("read")
            yield leaf

    def absorbed(self: Facts, *given: Any) -> bool:
        happened.append("taken in")
        return absorb(self, *given)

    monkeypatch.setattr(audit, "entries_between", read)
    monkeypatch.setattr(Facts, "absorb", absorbed)
    world.followed()
    anew(world)
    assert happened == ["read", "taken in"] * (len(happened) // 2)
    assert len(happened) > 40


def test_damaged_facts_say_what_is_wrong_and_never_more(world: World, hsm: Hsm) -> None:
    binding = kept.Binding(bytes(16), world.release.trust(), bytes(32), None)
    facts = Facts(bytes(16), world.release.trust(), log.StoredStatements())
    for octets in (b"", b"\0", bytes(4), bytes(64), b"\xff" * 99, b"\0\0\0\1\x80" + bytes(32)):
        with pytest.raises(Untrusted, match="kept facts"):
            kept.read(io.BytesIO(octets), facts, key=KEY, binding=binding)
