# SPDX-License-Identifier: Apache-2.0
"""A profile written before rows were read by name: every row of it reads, and is written again with the same bytes.

`kept/profile.holdfast` holds made-up bytes of the right sizes in rows of every kind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.identity import evidence, security_events
from holdfast.client.messages import handshakes, outbox, prekey_rows, reports
from holdfast.client.messages.inbox_rows import Envelope, Kept
from holdfast.client.messages.letters import LETTER, Letter
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact, State
from holdfast.client.profile.turns import Standing
from holdfast.client.rotation.rotation_record import KIND as ROTATION
from holdfast.client.rotation.rotation_record import Part, Rotation, Step
from holdfast.client.sessions import sessions
from holdfast.client.vault import doors, share_requests, trusted, vault, vault_contents
from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import decode_row, encode_row, open_map, open_row, seal_map, seal_row
from holdfast.core.base.secret import SecretBytes

PUBLISHED = json.loads((Path(__file__).parents[2] / "vectors" / "holdfast" / "profile.json").read_text())
KEPT = Path(__file__).parent / "kept" / "profile.holdfast"
PASSPHRASE = SecretBytes(b"a passphrase for tests only")


def of_row(kind: type[Any], **beside: Any) -> Callable[[SecretBytes], SecretBytes]:
    return lambda kept: seal_row(open_row(kind, kept, "row", **beside))


def of_index(kept: SecretBytes) -> SecretBytes:
    rows = decode(kept.reveal())
    assert isinstance(rows, list)
    return SecretBytes(encode([encode_row(decode_row(sessions._Seat, row, "row")) for row in rows]))


REWRITES: dict[str, Callable[[SecretBytes], SecretBytes]] = {
    "state": lambda kept: State.from_secret(kept).to_secret(),
    "contact": of_row(Contact),
    "held": lambda kept: Envelope.from_secret(kept).to_secret(),
    "inbox": lambda kept: Kept.from_secret(kept).to_secret(),
    outbox.OUTBOX: of_row(outbox.Row, key=b""),
    reports.REPORT: of_row(reports.Report, id=b"", _store=None),
    prekey_rows.SIGNED: of_row(prekey_rows.SignedRow, key_id=0),
    prekey_rows.ONE_TIME: of_row(prekey_rows.OneTimeRow, key_id=0),
    prekey_rows.BATCH: of_row(prekey_rows.BatchRow, batch_id=b""),
    prekey_rows.LEDGER: of_row(prekey_rows.Ledger),
    LETTER: of_row(Letter, id=b""),
    handshakes.USED: of_row(handshakes._Used),
    "peer": of_index,
    sessions.INITIAL: of_row(sessions._Initial),
    ROTATION: lambda kept: Rotation.from_secret(kept).to_secret(),
    "share-set": of_row(trusted._SetUnderWay),
    vault_contents.TRUSTED_SET: of_row(trusted._ChosenSet),
    vault_contents.HELD_SHARE: of_row(trusted._HeldRow),
    share_requests._OWN[0]: of_row(share_requests._OwnRow),
    vault_contents.DOOR: of_row(doors._Mark),
    vault_contents.KNOWN_DEVICE: of_row(vault._KnownDevice),
    evidence.KIND: lambda kept: seal_map(open_map(evidence.Evidence, kept, "row")),
    security_events._KIND: of_row(security_events._Event),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Account:
    home = tmp_path_factory.mktemp("kept")
    home.chmod(0o700)
    shutil.copy(KEPT, home)
    (home / KEPT.name).chmod(0o600)
    return accounts.open_profile(home, passphrase=PASSPHRASE)


@pytest.mark.parametrize("kind", REWRITES)
def test_row_kept_from_before_is_read_and_written_with_the_same_bytes(kind: str, kept: Account) -> None:
    keys = kept.store.keys(kind)
    assert keys, kind
    for key in keys:
        row = kept.store.get(kind, key)
        assert row is not None
        assert REWRITES[kind](row).reveal() == row.reveal()


def test_profile_kept_from_before_says_what_was_written(kept: Account) -> None:
    state = kept.state
    assert (state.server, state.trust.is_tofu, state.trust.log_keys) == (
        "https://holdfast.example",
        True,
        ["holdfast/x+00+AA"],
    )
    assert [(one.number, one.not_before, one.is_exposed) for one in state.generations] == [
        (1, 1000, False),
        (2, 2000, True),
    ]
    assert (state.vault.epoch, state.vault.version, len(state.contacts)) == (3, 7, 2)
    assert state.case is not None
    assert len(state.case.recipient_rsa) == 1200
    (found,) = [one for one in map(kept.store.get, [ROTATION] * 2, kept.store.keys(ROTATION)) if one and len(one) > 400]
    rotation = Rotation.from_secret(found)
    assert (rotation.parts, rotation.step, rotation.destroy_at) == (Part(15), Step.UPLOAD, 1_792_000_000)
    assert rotation.device == state.device


def test_published_rows_are_those_of_the_kept_profile_and_are_written_with_the_same_bytes(kept: Account) -> None:
    for kind, key, value in PUBLISHED["kept"]:
        row = kept.store.get(kind, bytes.fromhex(key))
        assert row is not None
        assert row.reveal().hex() == value
    state = SecretBytes(bytes.fromhex(PUBLISHED["state"]))
    assert State.from_secret(state).to_secret() == state
    for name, kind in (("contact", Contact), ("turn", Standing)):
        row = SecretBytes(bytes.fromhex(PUBLISHED[name]))
        assert seal_row(open_row(kind, row, name)) == row


@pytest.mark.parametrize("case", PUBLISHED["refused"], ids=lambda case: str(case["why"]))
def test_published_states_to_refuse_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        State.from_secret(SecretBytes(bytes.fromhex(case["octets"])))
