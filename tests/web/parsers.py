# SPDX-License-Identifier: Apache-2.0
"""Every parser of the core, what it makes of some bytes, and samples that it takes.

The twin is web/sdk/tests/peer/parsers.ts: the same names, and the same bytes for what was read. It is written again
where the format has a writer, and otherwise told field by field in dCBOR.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from holdfast.core.base.encoding import MAX_BLOB, Encodable, b64u, decode, encode, unb64u
from holdfast.core.base.padding import unpad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import decode_public_key
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.crypto.slip39 import Share
from holdfast.core.crypto.stretching import Stretching
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow import archive
from holdfast.core.escrow.custody import read_manifest
from holdfast.core.escrow.deposit import Deposit, DepositHeader
from holdfast.core.escrow.receipt import Receipt
from holdfast.core.identity.entries import Entry
from holdfast.core.identity.roles import check_leaf
from holdfast.core.log import log_export
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.log_export import ExportedEntry, ExportedTile, WithheldEntry
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.messages.content import Content
from holdfast.core.messages.prekeys import OneTimePreKey
from holdfast.core.messages.session import Session
from holdfast.core.messages.skipped import SkippedKeys
from holdfast.core.messages.wire import read_message
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.requests import parse_signature
from holdfast.core.signed.turns import Answered
from holdfast.core.vault import contacts_door, password_door
from holdfast.core.vault.blob import Section, VaultHeader, read_header
from holdfast.core.vault.contact_shares import ContactShare, ShareLetter
from holdfast.core.vault.door_blob import Door
from holdfast.core.vault.export_file import ExportFile
from holdfast.core.vault.pairing import ExistingDevice, NewDevice, PairingRequest
from holdfast.core.vault.passkey_door import read_passkey_door
from holdfast.core.vault.phrase_door import read_phrase_door
from holdfast.core.vault.sync_letter import DeviceSync, SyncLetter
from tests.cast import statements as cast
from tests.faults.fuzz import parsers as fuzzed
from tests.faults.fuzz.parsers import PARSERS as FUZZED

EMPTY: Final = encode([])


@dataclass(frozen=True)
class Parser:
    """read: what bytes become. samples: some that it takes. is_text: it is fed with UTF-8 alone."""

    read: Callable[[bytes], bytes]
    samples: Sequence[bytes]
    is_text: bool = False


def said(*fields: Encodable) -> bytes:
    return encode(list(fields))


def optional(value: Encodable | None) -> Encodable:
    return [] if value is None else [value]


def both_ways(read: Callable[[bytes], Any], write: Callable[[Any], bytes], *samples: bytes) -> Parser:
    return Parser(lambda data: write(read(data)), samples)


def of_text(read: Callable[[str], Any], write: Callable[[Any], bytes], *samples: bytes) -> Parser:
    return Parser(lambda data: write(read(data.decode())), samples, is_text=True)


def _payloads() -> dict[str, Parser]:
    """The payloads of statements, by class."""
    made: dict[str, list[Any]] = {}
    for one in cast.PAYLOADS.values():
        made.setdefault(type(one).__name__, []).append(one)
    receipt = Receipt(cast.TENANT, cast.id_of("deposit"), cast.hash_of("record"), cast.hash_of("half"), 1)
    made["Receipt"] = [receipt]
    return {
        f"payload-{name}": both_ways(
            type(ones[0]).from_payload, lambda one: bytes(one.to_payload()), *(one.to_payload() for one in ones)
        )
        for name, ones in made.items()
    }


def _message(data: bytes) -> bytes:
    incoming = read_message(data)
    initial: list[Encodable] = [] if incoming.initial is None else [incoming.initial.encode()]
    return said(int(incoming.suite), incoming.initial_bytes, incoming.sealed, initial)


def _header_of(header: VaultHeader) -> bytes:
    return said(header.tenant, header.user, header.epoch, header.version)


def _password_door(data: bytes) -> bytes:
    door = Door.parse(data, password_door.KIND)
    stretching = Stretching.from_map(door.method, "door")
    cost = stretching.cost
    return said(door.epoch, cost.memory_kib, cost.passes, cost.lanes, stretching.salt)


def _door_of(door: Door) -> bytes:
    return said(door.epoch, door.method)


def _phrase(data: bytes) -> bytes:
    phrase = Phrase.parse(SecretBytes(data))
    return said(str(phrase.language.value), phrase.entropy.reveal(), phrase.text().reveal().decode())


def _commitment(data: bytes) -> bytes:
    ExistingDevice(PAIRED).receive_commitment(data)
    return EMPTY


def _answer(data: bytes) -> bytes:
    NewDevice(fuzzed.PAIRING).answer(data)
    return EMPTY


def _reveal(data: bytes) -> bytes:
    waiting = ExistingDevice(PAIRED)
    waiting.receive_commitment(NEW.commitment)
    waiting.receive_reveal(data)
    return EMPTY


def _sync_letter(data: bytes) -> bytes:
    letter = SyncLetter.open(data, key=fuzzed.LETTER_KEY, request_hash=fuzzed.PAIRING.hash)
    head = letter.header
    return said(letter.head, head.tenant, head.user, head.device, head.issued_at, head.expires_at)


def _archive_prefix(data: bytes) -> bytes:
    header, commit = archive.read_prefix(data)
    return said(header.tenant, header.user, header.generation, header.salt, commit)


def _checkpoint(text: str) -> bytes:
    read = Checkpoint.from_text(text)
    return said(read.origin, read.size, read.root, optional(read.time))


def _any_line(data: bytes) -> bytes:
    return log_export.read_entry_line(data).to_line()


def _claimed(data: bytes) -> bytes:
    found = ExportedEntry.claimed(data)
    return said(optional(found.get("id")), optional(found.get("tag")))


def _log_leaf(data: bytes) -> bytes:
    entry = LogEntry.from_leaf(data)
    body: list[Encodable] = [[name, value] for name, value in entry.body.items()]
    told = (entry.entry_id, entry.tag, entry.actor, entry.person, entry.subject, entry.time, body)
    return said(*told, entry.kid, entry.signature)


def _key_leaf(data: bytes) -> bytes:
    entry = KeyLogEntry.from_leaf(data)
    return said(entry.type, entry.subject_hash, entry.seq, entry.statement_hash, entry.time)


def _checked_leaf(data: bytes) -> bytes:
    check_leaf(data, index=0, roles=cast.ROLES)
    return EMPTY


def _signature_fields(text: str) -> bytes:
    head, _, tail = text.partition("\n")
    parameters, signature = parse_signature("POST", head, tail)
    fields = parameters.fields(signature)
    return f"{fields['Signature-Input']}\n{fields['Signature']}".encode()


def _samples(name: str, *, at: int | None = None, strip: int = 0) -> Sequence[bytes]:
    """Return what the fuzzer of Python begins with, all of it or one, without its first bytes."""
    samples = FUZZED[name].samples
    return [one[strip:] for one in (samples if at is None else samples[at : at + 1])]


PAIRED: Final = cast.device_statement()
NEW: Final = NewDevice(fuzzed.PAIRING)
_ANSWER: Final = ExistingDevice(PAIRED).receive_commitment(NEW.commitment)
_REVEAL: Final = NEW.answer(_ANSWER)
_RECORDS: Final = _samples("deposit-record")
_LEAF: Final = _samples("checked-leaf")[0]
_TILE: Final = ExportedTile(1, b"".join(leaf_hash(bytes([n])) for n in range(256)), (bytes(32),))
# What parsers need beside their bytes, for the process at the other end.
GIVEN: Final[Mapping[str, bytes]] = {
    "device": PAIRED.to_payload(),
    "pairing": fuzzed.PAIRING.to_bytes(),
    "pairing hash": fuzzed.PAIRING.hash,
    "commitment": NEW.commitment,
    "letter key": fuzzed.LETTER_KEY.seed().reveal(),
    "log": fuzzed.LOG.to_text().encode(),
    "roles": cast.ROLES.to_payload(),
}

PARSERS: Final[dict[str, Parser]] = {
    **_payloads(),
    "cbor": both_ways(partial(decode, max_size=MAX_BLOB), encode, *_samples("cbor")),
    "base64url": of_text(unb64u, lambda octets: b64u(octets).encode(), *_samples("base64url")),
    "public-key": both_ways(partial(decode_public_key, expect=None), lambda key: key.encoded, *_samples("public-key")),
    "sign1": both_ways(Sign1.parse, Sign1.encode, *_samples("sign1")),
    "many-signers": both_ways(cose.parse_many, cose.encode_many, *_samples("many-signers")),
    "chain-entry": both_ways(Entry.parse, Entry.encode, *_samples("chain-entry")),
    "hybrid-leaf": both_ways(
        partial(OneTimePreKey.from_leaf, suite=Suite.HYBRID), OneTimePreKey.to_leaf, *_samples("hybrid-leaf")
    ),
    "classical-leaf": both_ways(
        partial(OneTimePreKey.from_leaf, suite=Suite.CLASSICAL_P256),
        OneTimePreKey.to_leaf,
        *_samples("classical-leaf"),
    ),
    "message": Parser(_message, _samples("message")),
    "content": both_ways(Content.decode, Content.encode, *_samples("content")),
    "padding": both_ways(unpad, bytes, *_samples("padding")),
    "vault": both_ways(read_header, _header_of, *_samples("vault")),
    "officers-section": both_ways(
        partial(read_header, section=Section.OFFICERS), _header_of, *_samples("officers-section")
    ),
    "password-door": Parser(_password_door, _samples("password-door")),
    "phrase-door": both_ways(
        read_phrase_door,
        lambda door: said(str(door.language.value), int(door.has_passphrase)),
        *_samples("phrase-door"),
    ),
    "passkey-door": both_ways(
        partial(read_passkey_door, section=Section.OFFICERS),
        lambda door: said(door.credential_id, door.salt),
        *_samples("passkey-door"),
    ),
    "officers-door": both_ways(
        partial(Door.parse, kind=fuzzed.OFFICERS_SECTION.kind(password_door.KIND)),
        _door_of,
        *_samples("officers-door"),
    ),
    "contacts-door": both_ways(partial(Door.parse, kind=contacts_door.KIND), _door_of, *_samples("contacts-door")),
    "contact-share": both_ways(
        lambda data: ContactShare.from_secret(SecretBytes(data)),
        lambda share: bytes(share.to_secret().reveal()),
        *_samples("contact-share"),
    ),
    "share-letter": both_ways(
        ShareLetter.parse,
        lambda letter: said(letter.statement.encode(), letter.manifest.to_payload()),
        *_samples("share-letter"),
    ),
    "slip39": of_text(
        lambda text: Share.parse(SecretBytes(text.encode())),
        lambda share: bytes(share.to_bytes().reveal() + share.mnemonic().reveal()),
        *_samples("slip39"),
    ),
    "slip39-bytes": both_ways(
        lambda data: Share.from_bytes(SecretBytes(data)),
        lambda share: bytes(share.to_bytes().reveal()),
        *_samples("slip39-bytes"),
    ),
    "phrase": Parser(_phrase, _samples("phrase"), is_text=True),
    "pairing-text": of_text(PairingRequest.parse, lambda request: request.text().encode(), *_samples("pairing-text")),
    "pairing-request": both_ways(PairingRequest.from_bytes, PairingRequest.to_bytes, *_samples("pairing-request")),
    "pairing-commitment": Parser(_commitment, [NEW.commitment]),
    "pairing-answer": Parser(_answer, [_ANSWER]),
    "pairing-reveal": Parser(_reveal, [_REVEAL]),
    "sync-letter": Parser(_sync_letter, _samples("sync-letter")),
    "device-sync": both_ways(
        lambda data: DeviceSync.from_secret(SecretBytes(data)),
        lambda sync: bytes(sync.to_secret().reveal()),
        *_samples("device-sync"),
    ),
    "export-file": both_ways(ExportFile.parse, ExportFile.encode, *_samples("export-file")),
    "deposit-header": both_ways(
        DepositHeader.from_bytes,
        DepositHeader.to_bytes,
        *(Deposit.from_record(record).header.to_bytes() for record in _RECORDS),
    ),
    "deposit-record": both_ways(Deposit.from_record, Deposit.to_record, *_RECORDS),
    "custody-manifest": both_ways(
        lambda data: read_manifest(io.BytesIO(data)),
        lambda manifest: b"".join(manifest.to_lines()),
        *_samples("custody-manifest"),
    ),
    "archive-prefix": Parser(_archive_prefix, _samples("archive-prefix")),
    "checkpoint": of_text(_checkpoint, bytes, *(one.partition(b"\n\n")[0] + b"\n" for one in _samples("checkpoint"))),
    "note": of_text(fuzzed.LOG.open, str.encode, *_samples("checkpoint")),
    "verifier-key": of_text(NoteVerifier.from_text, lambda one: one.to_text().encode(), *_samples("verifier-key")),
    "log-header": both_ways(log_export.Header.from_line, log_export.Header.to_line, *_samples("log-line", at=0)),
    "log-checkpoint-line": both_ways(
        log_export.read_checkpoint_line, log_export.checkpoint_line, *_samples("log-line", at=2)
    ),
    "log-entry-line": both_ways(ExportedEntry.from_line, ExportedEntry.to_line, *_samples("log-line", at=1)),
    "log-withheld-line": both_ways(
        WithheldEntry.from_line, WithheldEntry.to_line, WithheldEntry(3, bytes(32), (bytes(32),)).to_line()
    ),
    "log-tile-line": both_ways(ExportedTile.from_line, ExportedTile.to_line, _TILE.to_line()),
    "log-any-line": Parser(
        _any_line, [*_samples("log-line", at=1), WithheldEntry(3, bytes(32), (bytes(32),)).to_line()]
    ),
    "log-claimed": Parser(_claimed, _samples("log-line", at=1)),
    "log-leaf": Parser(_log_leaf, _samples("log-leaf")[:2]),
    "key-leaf": Parser(_key_leaf, _samples("log-leaf")[2:]),
    "checked-leaf": Parser(_checked_leaf, [_LEAF]),
    "compact-range": both_ways(
        CompactRange.from_bytes,
        CompactRange.to_bytes,
        CompactRange.over([leaf_hash(bytes([n])) for n in range(11)]).to_bytes(),
    ),
    "signature-fields": of_text(_signature_fields, bytes, *_samples("signature-fields")),
    "turn-answer": of_text(Answered.parse, lambda one: said(one.mark, one.breaks), b"AAECAwQFBgc.3"),
    "session": both_ways(
        lambda data: Session.from_secret(SecretBytes(data)),
        lambda session: bytes(session.to_secret().reveal()),
        *_samples("session"),
    ),
    "skipped-keys": both_ways(
        lambda data: SkippedKeys.from_secret(SecretBytes(data)),
        lambda kept: bytes(kept.to_secret().reveal()),
        *_samples("skipped-keys"),
    ),
}
