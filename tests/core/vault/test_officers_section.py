# SPDX-License-Identifier: Apache-2.0
"""The officers' section: its blob and its doors are taken for nothing of the vault's, nor the other way round."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import Expired, InvalidSignature, Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from holdfast.core.vault.blob import Section, VaultHeader, open_vault, read_header, seal_vault
from holdfast.core.vault.contacts_door import seal_contacts_door
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.door_proof import MAX_AGE_SECONDS, DoorProof, verify_door_proof
from holdfast.core.vault.passkey_door import new_salt, open_passkey_door, read_passkey_door, seal_passkey_door
from holdfast.core.vault.password_door import Argon2Cost, open_password_door, seal_password_door
from holdfast.core.vault.phrase_door import open_phrase_door, read_phrase_door, seal_phrase_door
from tests.cast.statements import ACME, AIK, ALICE, CAROL, LAPTOP, MALLORY_TENANT, NOW

KEY = SecretBytes(bytes(range(32)))
SECRET = SecretBytes(b"correct horse battery of 32 octs")
QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
VAULT = DoorOwner(ACME, ALICE, 1)
OFFICERS = replace(VAULT, section=Section.OFFICERS)
SALT = new_salt()
SEAL: dict[str, Callable[[DoorOwner], bytes]] = {
    "password": lambda owner: seal_password_door(KEY, password=SECRET, owner=owner, cost=QUICK),
    "phrase": lambda owner: seal_phrase_door(KEY, phrase=Phrase(SECRET), owner=owner),
    "passkey": lambda owner: seal_passkey_door(KEY, credential_id=b"c", salt=SALT, prf_output=SECRET, owner=owner),
}
OPEN: dict[str, Callable[[bytes, DoorOwner], SecretBytes]] = {
    "password": lambda blob, owner: open_password_door(blob, password=SECRET, owner=owner),
    "phrase": lambda blob, owner: open_phrase_door(blob, phrase=Phrase(SECRET), owner=owner),
    "passkey": lambda blob, owner: open_passkey_door(blob, prf_output=SECRET, owner=owner),
}


def relabelled(blob: bytes, label: str) -> bytes:
    value: Any = decode(blob)
    return encode({**value, 2: label})


def test_blob_of_one_section_is_never_opened_as_the_other() -> None:
    for mine in Section:
        header = VaultHeader(ACME, ALICE, 1, 1, mine)
        blob = seal_vault(SECRET, vault_key=KEY, header=header)
        assert open_vault(blob, vault_key=KEY, expect=header) == SECRET
        assert read_header(blob, mine) == header
        (other,) = set(Section) - {mine}
        with pytest.raises(Malformed):
            open_vault(blob, vault_key=KEY, expect=replace(header, section=other))
        with pytest.raises(Malformed):
            read_header(blob, other)
        # Whoever renames it, and even if both were under one key.
        with pytest.raises(UnwrapFailed):
            open_vault(relabelled(blob, other.value), vault_key=KEY, expect=replace(header, section=other))


@pytest.mark.parametrize("kind", SEAL)
def test_door_of_one_section_is_never_opened_as_the_other(kind: str) -> None:
    for mine, other in ((VAULT, OFFICERS), (OFFICERS, VAULT)):
        blob = SEAL[kind](mine)
        assert OPEN[kind](blob, mine) == KEY
        with pytest.raises(Malformed):
            OPEN[kind](blob, other)
        with pytest.raises(UnwrapFailed):
            OPEN[kind](relabelled(blob, other.kind(kind)), other)


def test_one_phrase_of_both_sections_makes_keys_that_say_nothing_of_each_other() -> None:
    # One salt, as a server could arrange: the label alone stands between the two.
    mine: Any = decode(SEAL["phrase"](VAULT))
    theirs: Any = decode(SEAL["phrase"](OFFICERS))
    mixed = encode({**theirs, 3: mine[3], 8: mine[8], 9: mine[9], 10: mine[10]})
    with pytest.raises(UnwrapFailed):
        OPEN["phrase"](mixed, OFFICERS)


def test_contacts_never_open_the_officers_section() -> None:
    with pytest.raises(ValueError, match="never open"):
        seal_contacts_door(KEY, secret=SECRET, set_id=bytes(16), owner=OFFICERS)


def test_doors_of_the_section_say_what_to_ask_for() -> None:
    assert not read_phrase_door(SEAL["phrase"](OFFICERS), Section.OFFICERS).has_passphrase
    said = read_passkey_door(SEAL["passkey"](OFFICERS), Section.OFFICERS)
    assert (said.credential_id, said.salt) == (b"c", SALT)


@pytest.mark.parametrize(
    "wrong",
    [{1: "passphrase"}, {2: b""}, {2: bytes(513)}, {3: bytes(31)}, {4: 1}],
    ids=str,
)
def test_passkey_door_refuses_what_is_outside_the_format(wrong: dict[int, Any]) -> None:
    plain: Any = decode(SEAL["passkey"](VAULT))
    with pytest.raises(Malformed):
        OPEN["passkey"](encode({**plain, 3: {**plain[3], **wrong}}), VAULT)


def test_passkey_door_opens_by_no_other_answer_and_asks_with_no_other_salt() -> None:
    blob = SEAL["passkey"](VAULT)
    with pytest.raises(UnwrapFailed):
        open_passkey_door(blob, prf_output=SecretBytes(bytes(32)), owner=VAULT)
    plain: Any = decode(blob)
    with pytest.raises(UnwrapFailed):
        OPEN["passkey"](encode({**plain, 3: {**plain[3], 3: bytes(32)}}), VAULT)
    for wrong in ({"credential_id": b""}, {"salt": bytes(31)}, {"prf_output": SecretBytes(b"short")}):
        given: Any = {"credential_id": b"c", "salt": SALT, "prf_output": SECRET} | wrong
        with pytest.raises(ValueError, match="passkey door"):
            seal_passkey_door(KEY, owner=VAULT, **given)


# Proofs

BLOB = SEAL["phrase"](OFFICERS)


def prove(at: int = NOW, key: SigningKey = AIK, **changes: Any) -> Any:
    header = Header(changes.pop("tenant", ACME), changes.pop("user", ALICE), LAPTOP, at)
    proof = DoorProof(header, changes.pop("kind", "officers-phrase"), hashlib.sha256(BLOB).digest())
    signed = cose.sign(replace(proof, **changes).to_payload(), purpose=Purpose.DOOR_PROOF, key=key)
    hashed = hashlib.sha256(BLOB).digest()
    return verify_door_proof(
        signed, aik=AIK.public, tenant=ACME, user=ALICE, kind="officers-phrase", blob_hash=hashed, at=NOW
    )


def test_proof_is_of_this_door_by_this_account_and_of_now() -> None:
    assert prove().kind == "officers-phrase"
    assert prove(at=NOW - MAX_AGE_SECONDS)
    for wrong in (
        {"kind": "phrase"}, {"kind": "officers-password"}, {"blob_hash": bytes(32)}, {"user": CAROL},
        {"tenant": MALLORY_TENANT},
    ):  # fmt: skip
        with pytest.raises(Untrusted, match="another door"):
            prove(**wrong)
    with pytest.raises(InvalidSignature):
        prove(key=SigningKey.generate())
    for at in (NOW - MAX_AGE_SECONDS - 1, NOW + MAX_AHEAD_SECONDS + 1):
        with pytest.raises(Expired):
            prove(at=at)
    with pytest.raises(ValueError, match="read this back"):
        prove(kind="x" * 33)
