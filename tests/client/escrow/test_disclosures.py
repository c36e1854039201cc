# SPDX-License-Identifier: Apache-2.0
"""Another person's archive, disclosed by a case: read until its end, each file written down before it is handed out."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.client import maintenance
from holdfast.client.errors import MachineError, NotPossible, NotYet, ProfileError, TrustRefused, WrongInput
from holdfast.client.escrow import archive, disclosures
from holdfast.client.escrow.disclosures import MAX_KEPT, Disclosure
from holdfast.client.identity import key_log
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.recovery import by_case
from holdfast.client.recovery.by_case import DISCLOSURE_SECONDS
from holdfast.client.rotation import rotation
from holdfast.client.vault import vault_contents
from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.archive import SEGMENT_SIZE, encrypt_segments
from holdfast.core.escrow.custody import MAX_LINES
from holdfast.core.identity.cases import Case
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.cose import Sign1
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, BOB, Members

DAY = 86_400


def disclosed(world: Members, tmp_path: Path, *, until: int | None = NOW + 9 * DAY) -> tuple[Account, Disclosure]:
    """Return bob, to whom a case has disclosed the archive of alice, who wrote a letter and has left."""
    world.depositor(tmp_path)
    bob = world.published(BOB)
    opened = by_case.open_case(
        bob, reason="Handover of the projects.", purpose="recovery", subject=ALICE, ends_at=until
    )
    for index in (1, 3):
        world.approve(index, opened)
    done = by_case.collect(bob)
    assert done.disclosure is not None
    return bob, done.disclosure


def read(bob: Account, kept: Disclosure, tmp_path: Path, name: str = "read") -> bytes:
    disclosures.decrypt_file(bob, kept.case_id, tmp_path / "letter.holdfast", tmp_path / name)
    return (tmp_path / name).read_bytes()


def files(bob: Account, kept: Disclosure, tmp_path: Path) -> list[tuple[int, int]]:
    """The size and time of each file in the manifest as it is handed over and verified, and whether it is closed."""
    target = tmp_path / "manifest"
    target.unlink(missing_ok=True)
    disclosures.write_file(bob, kept.case_id, target)
    return [(file.size, file.time) for file in disclosures.read_file(target).files]


def test_file_of_another_is_read_by_what_a_case_disclosed(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    assert read(bob, kept, tmp_path) == (tmp_path / "letter").read_bytes()
    size = (tmp_path / "letter.holdfast").stat().st_size
    assert files(bob, kept, tmp_path) == [(size, NOW)]
    (listed,) = disclosures.list_disclosures(bob)
    assert (listed.subject, listed.generations, listed.files, listed.ends_at) == (ALICE, [1], 1, NOW + 9 * DAY)


def test_case_about_another_names_an_end_and_frees_the_device_once_it_is_collected(
    world: Members, tmp_path: Path
) -> None:
    bob, kept = disclosed(world, tmp_path, until=None)
    (sent,) = world.server.posted("cases")
    asked = Case.from_payload(Sign1.parse(unb64u(sent["case"])).payload)
    assert asked.disclosure_ends == asked.expiry + DISCLOSURE_SECONDS == kept.ends_at
    assert bob.state.case is None
    again = by_case.open_case(bob, reason="More.", purpose="recovery", subject=ALICE)
    assert by_case.status(bob).ends_at == again.ends_at
    with pytest.raises(NotYet):
        by_case.collect(bob)


def test_disclosed_keys_are_none_of_the_persons_own_and_go_into_no_vault(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    assert bob.state.generations == []
    opened = disclosures._load_keys(bob, kept.case_id).opened[0].key.reveal()
    assert opened not in bob.state.to_secret().reveal()
    assert opened not in vault_contents.of(bob).to_secret().reveal()
    with pytest.raises(ProfileError, match="does not hold"):
        archive.decrypt_file(bob, tmp_path / "letter.holdfast", tmp_path / "without")
    mine = tmp_path / "mine"
    mine.write_bytes(b"bob's own")
    archive.encrypt_file(bob, mine, tmp_path / "mine.holdfast")
    assert bob.state.generations[0].key.reveal() != opened
    with pytest.raises(NotPossible, match="does not open that file"):
        disclosures.decrypt_file(bob, kept.case_id, tmp_path / "mine.holdfast", tmp_path / "back")


class Watched(MemoryStore):
    """A store that looks, each time a line of a manifest is written, at what lies beside the file that is decrypted."""

    look: Callable[[], object] | None = None

    def put(self, kind: str, key: bytes, value: SecretBytes) -> None:
        if kind == "custody-line" and self.look is not None:
            self.look()
        super().put(kind, key, value)


def watched(account: Account) -> Watched:
    """Have an account look at its custody lines as they are written."""
    store = Watched(tenant=account.tenant, user=account.user)
    store.__dict__.update(account.store.__dict__)
    account.store = store
    return store


def test_line_is_written_before_the_first_byte_of_the_plaintext(world: Members, tmp_path: Path) -> None:
    """A kill at any moment leaves a line without a file at worst, and never a file without a line."""
    bob, kept = disclosed(world, tmp_path)
    big, out = tmp_path / "letter.holdfast", tmp_path / "out"
    assert big.stat().st_size > SEGMENT_SIZE
    out.mkdir()
    store = watched(bob)
    seen: list[int] = []

    def look() -> None:
        seen.append(sum(path.stat().st_size for path in out.iterdir()))

    store.look = look
    disclosures.decrypt_file(bob, kept.case_id, big, out / "read")
    assert seen == [0]

    def full() -> None:
        raise MachineError("The disk is full.")

    store.look = full
    with pytest.raises(MachineError, match="full"):
        disclosures.decrypt_file(bob, kept.case_id, big, out / "again")
    assert [path.name for path in out.iterdir()] == ["read"]
    assert len(files(bob, kept, tmp_path)) == 1


def test_no_line_is_written_for_what_does_not_open(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    (tmp_path / "there").write_bytes(b"in the way")
    with pytest.raises(FileExistsError):
        read(bob, kept, tmp_path, "there")
    (tmp_path / "no-record").write_bytes(b"HFAR is not all of it")
    with pytest.raises(WrongInput):
        disclosures.decrypt_file(bob, kept.case_id, tmp_path / "no-record", tmp_path / "out")
    with pytest.raises(NotPossible, match="no disclosure"):
        disclosures.decrypt_file(bob, bytes(16), tmp_path / "letter.holdfast", tmp_path / "out")
    assert files(bob, kept, tmp_path) == []


def test_changed_file_is_written_down_and_not_handed_out(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    changed = bytearray((tmp_path / "letter.holdfast").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "changed").write_bytes(changed)
    with pytest.raises(TrustRefused):
        disclosures.decrypt_file(bob, kept.case_id, tmp_path / "changed", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(files(bob, kept, tmp_path)) == 1


def test_file_that_is_exchanged_after_its_line_is_not_handed_out(
    world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two authentic records of one beginning: whoever has the key can make them, and the line names one only."""
    bob, kept = disclosed(world, tmp_path)
    key = disclosures._load_keys(bob, kept.case_id).opened[0].key
    records = []
    with monkeypatch.context() as patch:
        patch.setattr("holdfast.core.escrow.archive.secrets.token_bytes", bytes)
        for content in (b"named", b"not named"):
            pieces = encrypt_segments([content], archive_key=key, tenant=bob.tenant, user=ALICE, generation=1)
            records.append(b"".join(pieces))
    (tmp_path / "record").write_bytes(records[0])
    watched(bob).look = lambda: (tmp_path / "record").write_bytes(records[1])
    with pytest.raises(TrustRefused, match="changed while it was read"):
        disclosures.decrypt_file(bob, kept.case_id, tmp_path / "record", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [size for size, _ in files(bob, kept, tmp_path)] == [len(records[0])]


def test_keys_are_gone_from_the_moment_of_the_end_and_the_manifest_is_closed(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    read(bob, kept, tmp_path)
    world.now = kept.ends_at - 1
    assert read(bob, kept, tmp_path, "last")
    world.now = kept.ends_at
    with pytest.raises(NotPossible, match="has ended"):
        read(bob, kept, tmp_path, "late")
    assert not (tmp_path / "late").exists()
    # Nothing brings keys back, so the time of their end has to be confirmed: this machine's clock may be wrong.
    assert bob.store.keys("disclosed-keys") == [kept.case_id]
    world.now = kept.ends_at - 1
    assert read(bob, kept, tmp_path, "set right")
    world.now = kept.ends_at
    assert key_log.confirm_time(bob)
    with pytest.raises(NotPossible, match="are destroyed"):
        read(bob, kept, tmp_path, "late")
    assert bob.store.keys("disclosed-keys") == []
    disclosures.write_file(bob, kept.case_id, tmp_path / "manifest")
    manifest = disclosures.read_file(tmp_path / "manifest")
    assert (len(manifest.files), manifest.is_closed) == (3, True)
    # A clock that is set back brings nothing back.
    world.now = NOW
    with pytest.raises(NotPossible, match="has ended"):
        read(bob, kept, tmp_path, "late")


def test_dates_of_a_manifest_do_not_go_back_with_the_clock(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    world.now = kept.ends_at - 1
    read(bob, kept, tmp_path)
    world.now = NOW
    read(bob, kept, tmp_path, "again")
    assert [time for _, time in files(bob, kept, tmp_path)] == [kept.ends_at - 1] * 2


def test_maintenance_ends_what_has_run_out(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)

    def told() -> list[str]:
        return [done.said for done in maintenance.maintain(bob) if done.item == "disclosures"]

    assert told() == ["Nothing was due."]
    world.now = kept.ends_at
    assert str(UUID(bytes=kept.case_id)) in told()[0]
    assert bob.store.keys("disclosed-keys") == []
    assert told() == ["Nothing was due."]


def test_disclosure_is_ended_by_hand_and_forgotten_only_after_its_manifest_was_written(
    world: Members, tmp_path: Path
) -> None:
    bob, kept = disclosed(world, tmp_path)
    with pytest.raises(NotPossible, match="not ended"):
        disclosures.forget(bob, kept.case_id)
    assert disclosures.end(bob, kept.case_id).is_ended
    assert disclosures.end(bob, kept.case_id).lines == 1
    with pytest.raises(NotPossible, match="has ended"):
        read(bob, kept, tmp_path)
    with contextlib.suppress(OSError):
        disclosures.write_file(bob, kept.case_id, tmp_path / "nowhere" / "manifest")
    with pytest.raises(NotPossible, match="would be gone"):
        disclosures.forget(bob, kept.case_id)
    assert len(bob.store.keys("custody-line")) == 1
    disclosures.write_file(bob, kept.case_id, tmp_path / "manifest")
    disclosures.forget(bob, kept.case_id)
    kinds = ("disclosure", "disclosed-keys", "custody-line", "disclosure-written")
    assert [bob.store.keys(kind) for kind in kinds] == [[], [], [], []]


def test_manifest_that_was_written_before_its_end_is_not_all_of_it(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    disclosures.write_file(bob, kept.case_id, tmp_path / "too-early")
    disclosures.end(bob, kept.case_id)
    with pytest.raises(NotPossible, match="would be gone"):
        disclosures.forget(bob, kept.case_id)


def test_lines_are_signed_by_the_device_that_received_also_after_its_keys_were_replaced(
    world: Members, tmp_path: Path
) -> None:
    bob, kept = disclosed(world, tmp_path)
    read(bob, kept, tmp_path)
    before = bob.device.id
    rotation.rotate(bob, {rotation.DEVICE}, reason=Reason.USER_REQUEST)
    assert bob.device.id != before
    read(bob, kept, tmp_path, "again")
    assert len(files(bob, kept, tmp_path)) == 2


def test_manifest_of_which_a_line_is_gone_is_not_written(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    read(bob, kept, tmp_path)
    bob.store.delete("custody-line", bob.store.keys("custody-line")[0])
    with pytest.raises(ProfileError, match="missing"):
        disclosures.write_file(bob, kept.case_id, tmp_path / "manifest")
    assert not (tmp_path / "manifest").exists()


def test_manifest_that_was_edited_does_not_verify(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    for name in ("one", "two"):
        read(bob, kept, tmp_path, name)
    disclosures.write_file(bob, kept.case_id, tmp_path / "manifest")
    lines = (tmp_path / "manifest").read_bytes().splitlines(keepends=True)
    (tmp_path / "edited").write_bytes(b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises(Untrusted, match="line 4"):
        disclosures.read_file(tmp_path / "edited")


@pytest.mark.parametrize("until", [0, NOW, NOW + 30 * DAY + 365 * DAY + 1])
def test_end_that_cannot_be_is_refused_before_anything_is_asked(until: int, world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    bob = world.published(BOB)
    with pytest.raises(WrongInput, match="cannot end then"):
        by_case.open_case(bob, reason="x", purpose="recovery", subject=ALICE, ends_at=until)
    with pytest.raises(WrongInput, match="Your own archive"):
        by_case.open_case(bob, reason="x", purpose="recovery", subject=BOB, ends_at=NOW + DAY)
    assert world.server.posted("cases") == []


def test_what_has_ended_before_it_was_collected_is_not_collected(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    bob = world.published(BOB)
    opened = by_case.open_case(bob, reason="x", purpose="recovery", subject=ALICE, ends_at=NOW + DAY)
    for index in (1, 2):
        world.approve(index, opened)
    world.now = NOW + DAY
    with pytest.raises(NotPossible, match="ended already"):
        by_case.collect(bob)
    assert disclosures.list_disclosures(bob) == []


def test_profile_keeps_a_bounded_number_of_disclosures(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    kind, row = "disclosure", bob.store.get("disclosure", kept.case_id)
    assert row is not None
    for number in range(MAX_KEPT - 1):
        bob.store.put(kind, number.to_bytes(16, "big"), row)
    with pytest.raises(NotPossible, match=str(MAX_KEPT)):
        by_case.open_case(bob, reason="x", purpose="recovery", subject=ALICE)


def test_manifest_has_room_for_its_closing_line(world: Members, tmp_path: Path) -> None:
    bob, kept = disclosed(world, tmp_path)
    full = replace(kept, lines=MAX_LINES - 1, last=bytes(32))
    with pytest.raises(NotPossible, match="full"):
        disclosures._write_line(bob, full, disclosures._load_keys(bob, kept.case_id), (bytes(32), 1))
    assert disclosures._write_line(bob, full, disclosures._load_keys(bob, kept.case_id)).lines == MAX_LINES


def test_two_disclosures_have_a_manifest_each(world: Members, tmp_path: Path) -> None:
    bob, first = disclosed(world, tmp_path)
    opened = by_case.open_case(bob, reason="x", purpose="recovery", subject=ALICE)
    for index in (1, 2):
        world.approve(index, opened)
    second = by_case.collect(bob).disclosure
    assert second is not None
    read(bob, first, tmp_path)
    shutil.move(tmp_path / "read", tmp_path / "read-1")
    read(bob, second, tmp_path)
    disclosures.end(bob, first.case_id)
    read(bob, second, tmp_path, "once-more")
    assert [len(files(bob, kept, tmp_path)) for kept in (first, second)] == [1, 2]
