# SPDX-License-Identifier: Apache-2.0
"""The published vectors of chains, phrases, doors, contacts, pairing and exports, replayed as anybody would."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.base import typed
from holdfast.core.base.encoding import decode
from holdfast.core.base.errors import Forked, HoldfastError, Mistyped
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import slip39
from holdfast.core.crypto.keys import KeyKind, SealingKey, decode_public_key
from holdfast.core.crypto.phrase import Language, Phrase, PhraseError
from holdfast.core.identity.chain import ChainPin, ChainState, verify_chain
from holdfast.core.identity.entries import Entry
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.statements import DeviceStatement, SyncKind
from holdfast.core.vault import contacts_door, passkey_door, phrase_door
from holdfast.core.vault.blob import Section, VaultHeader, open_vault
from holdfast.core.vault.contact_shares import ContactShare, ShareLetter, WrongShare, check_share, combine, open_answer
from holdfast.core.vault.export_file import ExportFile
from holdfast.core.vault.pairing import ExistingDevice, NewDevice, PairingRequest
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner, open_password_door, sign_in_proof
from holdfast.core.vault.share_manifest import Manifest, ShareRequest
from holdfast.core.vault.sync_letter import DeviceSync, SyncLetter
from tests.published.__main__ import FILES, VECTORS


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def secret(text: str) -> SecretBytes:
    return SecretBytes(octets(text))


CHAINS, PHRASES, DOORS = read("chains"), read("phrases"), read("doors")
CONTACTS, PAIRING, EXPORT = read("contacts"), read("pairing"), read("export")
TYPED = read("typed")


def why(row: Any) -> str:
    return ", ".join(str(row[key]) for key in ("name", "format", "why") if key in row)


def owner(of: Any, section: Section = Section.VAULT) -> DoorOwner:
    said = of["owner"]
    return DoorOwner(octets(said["tenant"]), octets(said["user"]), said["epoch"], section)


def section_of(row: Any) -> Section:
    return Section(row.get("section", "vault"))


def test_each_file_is_published_and_names_the_page_that_it_is_about() -> None:
    published = {path.stem for path in VECTORS.glob("*.json")}
    assert published == set(FILES)
    for name in published:
        assert (Path(__file__).parents[2] / read(name)["page"]).is_file()


@pytest.mark.parametrize("name", FILES)
def test_each_file_can_be_made_again_in_the_same_shape(name: str) -> None:
    made = json.loads(json.dumps(FILES[name]()))
    assert list(made) == list(read(name))


# Chains


def chain_of(entries: list[str]) -> list[Entry]:
    return [Entry.parse(octets(entry)) for entry in entries]


def verified(entries: list[Entry], pinned: ChainPin | None = None) -> ChainState:
    return verify_chain(entries, tenant=octets(CHAINS["tenant"]), user=octets(CHAINS["user"]), pinned=pinned)


@pytest.mark.parametrize("chain", CHAINS["chains"], ids=["ed25519", "p256"])
def test_each_prefix_of_a_chain_says_what_is_published(chain: Any) -> None:
    for said in chain["states"]:
        state = verified(chain_of(chain["entries"][: said["seq"] + 1]))
        assert state.head.hex() == said["head"]
        assert state.aik.encoded.hex() == said["aik"]
        assert (state.recovery_key.encoded.hex() if state.recovery_key else None) == said["recovery_key"]
        assert {device.hex(): one.hex() for device, one in state.devices.items()} == said["devices"]
        assert [one.generation for one in state.generations] == said["generations"]
        assert (state.manifest_hash.hex() if state.manifest_hash else None) == said["manifest"]


REFUSED_CHAINS = [row for chain in CHAINS["chains"] for row in chain["refused"]]


@pytest.mark.parametrize("row", REFUSED_CHAINS, ids=why)
def test_chain_refuses_what_is_published_as_no_chain(row: Any) -> None:
    with pytest.raises(HoldfastError):
        verified(chain_of(row["entries"]))


@pytest.mark.parametrize("chain", CHAINS["chains"], ids=["ed25519", "p256"])
def test_a_published_fork_is_valid_by_itself_and_refused_by_who_has_seen_the_other(chain: Any) -> None:
    for fork in chain["forks"]:
        entries = chain_of(fork["entries"])
        verified(entries)
        with pytest.raises(Forked):
            verified(entries, ChainPin(fork["pinned"]["seq"], octets(fork["pinned"]["head"])))


# Phrases


@pytest.mark.parametrize("row", PHRASES["phrases"], ids=lambda row: row["language"])
def test_phrase_is_read_and_written_as_published(row: Any) -> None:
    phrase = Phrase(secret(row["entropy"]), Language(row["language"]))
    assert phrase.text().reveal().decode() == row["text"]
    for text in (row["text"], *row["typed"]):
        assert Phrase.parse(SecretBytes(text.encode())).entropy == phrase.entropy


@pytest.mark.parametrize("row", PHRASES["refused"], ids=why)
def test_phrase_refuses_what_is_published_as_none(row: Any) -> None:
    with pytest.raises(PhraseError):
        Phrase.parse(SecretBytes(row["text"].encode()))


@pytest.mark.parametrize("row", PHRASES["recovery_keys"])
def test_recovery_key_is_as_published(row: Any) -> None:
    passphrase = SecretBytes(row["passphrase"].encode()) if row["passphrase"] else None
    key = phrase_door.recovery_key(
        Phrase(secret(row["entropy"])),
        tenant=octets(row["tenant"]),
        user=octets(row["user"]),
        kind=KeyKind(row["type_byte"]),
        passphrase=passphrase,
    )
    assert key.seed() == secret(row["seed"])
    assert key.public.encoded.hex() == row["public"]


# Doors


def open_door(row: Any, blob: bytes, for_whom: DoorOwner) -> SecretBytes:
    if row["kind"] == "password":
        return open_password_door(blob, password=SecretBytes(row["password"].encode()), owner=for_whom)
    if row["kind"] == "phrase":
        passphrase = SecretBytes(row["passphrase"].encode()) if row["passphrase"] else None
        phrase = Phrase(secret(row["entropy"]))
        return phrase_door.open_phrase_door(blob, phrase=phrase, owner=for_whom, passphrase=passphrase)
    if row["kind"] == "passkey":
        said = passkey_door.read_passkey_door(blob, for_whom.section)
        assert said.credential_id == octets(row["credential_id"])
        return passkey_door.open_passkey_door(blob, prf_output=secret(row["prf_output"]), owner=for_whom)
    return contacts_door.open_contacts_door(
        blob, secret=secret(row["secret"]), set_id=octets(row["set"]), owner=for_whom
    )


BY_NAME = {row["name"]: row for row in DOORS["doors"]}


@pytest.mark.parametrize("name", BY_NAME)
def test_door_opens_as_published_and_for_nobody_else(name: str) -> None:
    row = BY_NAME[name]
    mine = owner(DOORS, section_of(row))
    blob = octets(row["blob"])
    assert open_door(row, blob, mine) == secret(DOORS["vault_key"])
    for other in (
        replace(mine, tenant=bytes(16)), replace(mine, user=bytes(16)), replace(mine, epoch=mine.epoch + 1),
        replace(mine, section=next(one for one in Section if one is not mine.section)),
    ):  # fmt: skip
        if row["kind"] == "contacts" and other.section is not mine.section:
            continue  # there is no such door to take it for
        with pytest.raises(HoldfastError):
            open_door(row, blob, other)


@pytest.mark.parametrize("row", DOORS["refused"], ids=why)
def test_door_refuses_each_published_mutation(row: Any) -> None:
    door = BY_NAME[row["name"]]
    with pytest.raises(HoldfastError):
        open_door(door, octets(row["octets"]), owner(DOORS, section_of(door)))


def _vault_header(section: Section = Section.VAULT) -> VaultHeader:
    mine = owner(DOORS)
    return VaultHeader(mine.tenant, mine.user, mine.epoch, DOORS["vault"]["version"], section)


@pytest.mark.parametrize(("name", "section"), [("vault", Section.VAULT), ("officers_section", Section.OFFICERS)])
def test_vault_opens_as_published(name: str, section: Section) -> None:
    key, header = secret(DOORS["vault_key"]), _vault_header(section)
    assert open_vault(octets(DOORS[name]["blob"]), vault_key=key, expect=header) == secret(DOORS[name]["keyring"])


@pytest.mark.parametrize("row", DOORS["refused_vaults"], ids=why)
def test_vault_refuses_each_published_mutation(row: Any) -> None:
    with pytest.raises(HoldfastError):
        open_vault(octets(row["octets"]), vault_key=secret(DOORS["vault_key"]), expect=_vault_header())


@pytest.mark.parametrize("row", DOORS["refused_sections"], ids=why)
def test_officers_section_refuses_each_published_mutation(row: Any) -> None:
    with pytest.raises(HoldfastError):
        open_vault(octets(row["octets"]), vault_key=secret(DOORS["vault_key"]), expect=_vault_header(Section.OFFICERS))


def test_sign_in_proof_is_as_published() -> None:
    said = DOORS["sign_in_proof"]
    door: Any = decode(octets(BY_NAME[said["of_door"]]["blob"]))
    kdf = door[3]
    proof = sign_in_proof(
        SecretBytes(said["password"].encode()),
        cost=Argon2Cost(kdf[3], kdf[4], kdf[5]),
        salt=kdf[6],
        tenant=owner(DOORS).tenant,
        user=owner(DOORS).user,
    )
    assert proof == secret(said["proof"])


# Contacts

MANIFEST = Manifest.from_payload(octets(CONTACTS["manifest"]["payload"]))
REQUEST = ShareRequest.from_payload(octets(CONTACTS["request"]["payload"]))


def test_manifest_and_request_are_as_published() -> None:
    assert (MANIFEST.hash.hex(), MANIFEST.k) == (CONTACTS["manifest"]["hash"], CONTACTS["manifest"]["k"])
    assert (REQUEST.hash.hex(), list(REQUEST.code)) == (CONTACTS["request"]["hash"], CONTACTS["request"]["code"])
    assert REQUEST.manifest_hash == MANIFEST.hash
    MANIFEST.require_door(octets(CONTACTS["door"]))


def test_the_published_contacts_bring_the_vault_key_back() -> None:
    aik = decode_public_key(octets(CONTACTS["owner"]["aik"]), expect=None)
    asker = SealingKey.from_seed(secret(CONTACTS["request"]["key_seed"]))
    answered = {}
    for row in CONTACTS["people"]:
        contact = octets(row["contact"])
        letter = ShareLetter.parse(octets(row["letter"]))
        letter.statement.verify(aik, purpose=Purpose.SHARE_MANIFEST)
        own = SealingKey.from_seed(secret(row["key_seed"]))
        share = letter.open(contact=contact, device=octets(row["device"]), key=own)
        assert share.to_secret() == secret(row["share"])
        assert slip39.Share.parse(SecretBytes(row["words"].encode())).to_bytes() == share.share
        answer = octets(row["answer"])
        answered[contact] = open_answer(answer, request=REQUEST, manifest=MANIFEST, contact=contact, key=asker)
        assert answered[contact] == share
    found = combine(MANIFEST, dict(list(answered.items())[-MANIFEST.k :]))
    assert found == secret(CONTACTS["secret"])
    opened = contacts_door.open_contacts_door(
        octets(CONTACTS["door"]), secret=found, set_id=MANIFEST.set_id, owner=owner(CONTACTS)
    )
    assert opened == secret(CONTACTS["vault_key"])


@pytest.mark.parametrize("row", CONTACTS["wrong_shares"], ids=why)
def test_a_published_wrong_share_is_blamed_on_its_contact(row: Any) -> None:
    with pytest.raises(WrongShare) as refused:
        check_share(MANIFEST, octets(row["contact"]), ContactShare.from_secret(secret(row["share"])))
    assert refused.value.contact == octets(row["contact"])


READERS: dict[str, Callable[[bytes], object]] = {
    "manifest": Manifest.from_payload,
    "request": ShareRequest.from_payload,
    "share": lambda data: ContactShare.from_secret(SecretBytes(data)),
}


@pytest.mark.parametrize("row", CONTACTS["refused"], ids=why)
def test_contacts_formats_refuse_each_published_mutation(row: Any) -> None:
    with pytest.raises(HoldfastError):
        READERS[row["format"]](octets(row["octets"]))


# Pairing


def existing() -> DeviceStatement:
    return DeviceStatement.from_payload(octets(PAIRING["existing_device"]))


def test_pairing_request_is_as_published() -> None:
    said = PAIRING["request"]
    request = PairingRequest.parse(said["text"])
    assert (request.to_bytes().hex(), request.hash.hex(), request.text()) == (
        said["octets"],
        said["hash"],
        said["text"],
    )
    request.require(DeviceStatement.from_payload(octets(PAIRING["new_device"])))


def test_pairing_by_digits_shows_the_published_code() -> None:
    commitment, answer, reveal = map(octets, PAIRING["messages"])
    new = NewDevice(PairingRequest.from_bytes(octets(PAIRING["request"]["octets"])))
    assert new.commitment == commitment
    assert new.answer(answer) == reveal
    assert new.code == PAIRING["code"]


def opened_letter(row: Any, data: bytes) -> DeviceSync:
    key = SealingKey.from_seed(secret(PAIRING["key_seed"]))
    letter = SyncLetter.open(data, key=key, request_hash=octets(row["request_hash"]))
    assert letter.head.hex() == row["head"]
    return letter.verify(existing().signing_key, kind=SyncKind(row["kind"]), nonce=octets(row["nonce"]))


@pytest.mark.parametrize("row", PAIRING["letters"], ids=lambda row: f"kind-{row['kind']}")
def test_sync_letter_opens_as_published(row: Any) -> None:
    assert opened_letter(row, octets(row["octets"])).to_secret() == secret(row["contents"])


@pytest.mark.parametrize("row", PAIRING["refused"], ids=why)
def test_pairing_formats_refuse_each_published_mutation(row: Any) -> None:
    data = octets(row["octets"])
    request = PairingRequest.parse(PAIRING["request"]["text"])
    waiting = ExistingDevice(existing())
    waiting.receive_commitment(octets(PAIRING["messages"][0]))
    readers: dict[str, Callable[[bytes], object]] = {
        "request": PairingRequest.from_bytes,
        "message 1": ExistingDevice(existing()).receive_commitment,
        "message 2": NewDevice(request).answer,
        "message 3": waiting.receive_reveal,
        "letter": lambda letter: opened_letter(PAIRING["letters"][0], letter),
    }
    with pytest.raises(HoldfastError):
        readers[row["format"]](data)


@pytest.mark.parametrize("text", PAIRING["refused_texts"])
def test_pairing_text_refuses_each_published_mutation(text: str) -> None:
    with pytest.raises(HoldfastError):
        PairingRequest.parse(text)


# What is typed


@pytest.mark.parametrize("row", TYPED["enrolment_codes"], ids=lambda row: row["text"][:12])
def test_enrolment_code_is_read_and_written_as_published(row: Any) -> None:
    code = EnrolmentCode(
        octets(row["tenant"]),
        octets(row["person"]),
        secret(row["secret"]),
        octets(row["root_pin"]),
        row["log_vkey"],
        octets(row["founding_root"]),
    )
    assert code.text() == row["text"]
    for text in (row["text"], *row["typed"]):
        assert EnrolmentCode.parse(text) == code


@pytest.mark.parametrize("text", TYPED["refused_codes"])
def test_enrolment_code_refuses_what_is_published_as_none(text: str) -> None:
    with pytest.raises(Mistyped):
        EnrolmentCode.parse(text)


def test_what_is_typed_is_read_as_published() -> None:
    for row in TYPED["passwords"]:
        assert typed.password(row["typed"]) == row["canonical"]
    for row in TYPED["words"]:
        assert typed.words(row["typed"], "words") == row["words"]
    for row in TYPED["numbers"]:
        assert typed.ungrouped(row["typed"]) == row["ungrouped"]


# Exports


def test_export_opens_as_published() -> None:
    file = ExportFile.parse(octets(EXPORT["file"]))
    aik, device = (
        decode_public_key(octets(EXPORT[name]), expect=KeyKind.ED25519) for name in ("aik", "device_signing_key")
    )
    file.verify(aik=aik, signing_key=device)
    assert file.owner == owner(EXPORT)
    key = open_password_door(file.door, password=SecretBytes(EXPORT["password"].encode()), owner=file.owner)
    assert open_vault(file.vault, vault_key=key, expect=file.header) == secret(EXPORT["keyring"])


@pytest.mark.parametrize("row", EXPORT["refused"], ids=why)
def test_export_refuses_each_published_mutation(row: Any) -> None:
    with pytest.raises(HoldfastError):
        ExportFile.parse(octets(row["octets"]))


def test_at_least_twenty_mutations_of_each_format_are_published() -> None:
    counted: dict[str, int] = {}
    for name, rows in (
        ("door", DOORS["refused"]), ("vault", DOORS["refused_vaults"]),
            ("section", DOORS["refused_sections"]), ("contacts", CONTACTS["refused"]),
        ("pairing", PAIRING["refused"]), ("export", EXPORT["refused"]),
    ):  # fmt: skip
        for row in rows:
            key = f"{name} {row.get('name', row.get('format', ''))}"
            counted[key] = counted.get(key, 0) + 1
    assert len(counted) == 19
    assert min(counted.values()) >= 20, counted
    assert all(len(chain["refused"]) >= 20 for chain in CHAINS["chains"])
