# SPDX-License-Identifier: Apache-2.0
"""What each parser of the core and of the client's files and answers is fed, and samples that it must take.

A parser takes bytes that anybody may have written. It may refuse them with an error of the library; whatever it takes,
it must write again in the same bytes wherever it writes at all. Anything else that happens is a finding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused
from holdfast.client.profile.head import Head, read_head
from holdfast.client.profile.state import Contact, Generation
from holdfast.client.server.answers import Answer, parse
from holdfast.client.vault.vault_contents import KNOWN_DEVICE, CarriedRow, Contents
from holdfast.core.base.encoding import MAX_BLOB, b64u, decode, encode, unb64u
from holdfast.core.base.padding import pad, unpad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SealingKey, SigningKey, decode_public_key
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.crypto.slip39 import Share
from holdfast.core.crypto.stretching import Argon2Cost, Stretching
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow import archive
from holdfast.core.escrow.custody import read_manifest, write_manifest
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.entries import Entry
from holdfast.core.identity.roles import Roles, check_leaf
from holdfast.core.log import log_export
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.log_export import ExportedEntry
from holdfast.core.log.writers import Role
from holdfast.core.messages.content import Content, ContentKind
from holdfast.core.messages.prekeys import OneTimePreKey
from holdfast.core.messages.session import Session
from holdfast.core.messages.skipped import SkippedKeys
from holdfast.core.messages.wire import read_message
from holdfast.core.signed import cose, enrolment
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.requests import SignatureParameters, parse_signature
from holdfast.core.signed.statements import Sync, SyncKind
from holdfast.core.vault import contacts_door, password_door
from holdfast.core.vault.blob import Section, VaultHeader, read_header, seal_vault
from holdfast.core.vault.contact_shares import ContactShare, Prepared, ShareLetter, prepare, seal_share
from holdfast.core.vault.door_blob import Door, DoorOwner
from holdfast.core.vault.export_file import ExportFile
from holdfast.core.vault.pairing import ExistingDevice, NewDevice, PairingRequest
from holdfast.core.vault.passkey_door import read_passkey_door, seal_passkey_door
from holdfast.core.vault.password_door import seal_password_door
from holdfast.core.vault.phrase_door import read_phrase_door, seal_phrase_door
from holdfast.core.vault.share_manifest import Manifest, ShareRequest
from holdfast.core.vault.sync_letter import DeviceSync, OfficersKey, SyncLetter, seal_sync
from tests.cast import statements as cast
from tests.cast.custody import Custody
from tests.cast.devices import Device, pair
from tests.cast.statements import ACME, ALICE, CAROL, DAN, ERIN, NOW, PHONE

SECRET: Final = SecretBytes(bytes(range(32)))
PASSWORD: Final = SecretBytes(b"correct horse battery")
OWNER: Final = DoorOwner(ACME, ALICE, 1)
OFFICERS_SECTION: Final = replace(OWNER, section=Section.OFFICERS)
QUICK: Final = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
SIGNING: Final = SigningKey.generate()
LOG: Final = NoteVerifier("log.example/acme/keys", SIGNING.public)


@dataclass(frozen=True)
class Parser:
    """feed takes any bytes; samples are some that it must not refuse, is_ascii when only ASCII gets beyond the door."""

    feed: Callable[[bytes], object]
    samples: Sequence[bytes]
    is_ascii: bool = False


def both_ways(read: Callable[[bytes], Any], write: Callable[[Any], bytes], *samples: bytes) -> Parser:
    """Feed a parser that has a writer: what was read is written in the bytes that it was read from."""

    def feed(data: bytes) -> None:
        written = write(read(data))
        assert written == data, f"read as {written!r}"

    return Parser(feed, samples)


def ascii_text(feed: Callable[[bytes], object], *samples: bytes) -> Parser:
    """Feed a parser of ASCII text with nothing else: most bytes would tell us no more than that they are none."""
    return Parser(feed, samples, is_ascii=True)


def text_of(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Let a parser of text be fed with bytes; what is no UTF-8 is not for it."""

    def feed(data: bytes) -> Any:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        return read(text)

    return feed


# Parsers, one after another in the order of the core's modules


def _payloads() -> Parser:
    """All payloads of statements; the first byte says which."""
    made = [cast.PAYLOADS[name] for name in sorted(cast.PAYLOADS)]

    def feed(data: bytes) -> None:
        if data:
            shape = made[data[0] % len(made)]
            assert type(shape).from_payload(data[1:]).to_payload() == data[1:]

    return Parser(feed, [bytes([number]) + one.to_payload() for number, one in enumerate(made)])


def _chain_entries() -> list[bytes]:
    entries, _ = cast.begin(recovery_key=SIGNING.public)
    return [entry.encode() for entry in entries]


def _leaf(suite: Suite) -> Parser:
    device = Device("alice", suite)
    return both_ways(
        partial(OneTimePreKey.from_leaf, suite=suite),
        OneTimePreKey.to_leaf,
        *(one.leaf for one in device.leaves.leaves),
    )


def _leaves(data: bytes) -> None:
    """An upload's array of leaves, as the server takes it apart."""
    from holdfast.core.messages.bundle import _leaf_list

    for leaf in _leaf_list(data):
        OneTimePreKey.from_leaf(leaf, Suite.HYBRID)


def _messages() -> Parser:
    def feed(data: bytes) -> None:
        incoming = read_message(data)
        assert incoming.initial_bytes + incoming.sealed in (data, data[4:])
        if incoming.initial is not None:
            assert incoming.initial.encode() == incoming.initial_bytes

    alice, bob = Device("alice", Suite.HYBRID), Device("bob", Suite.HYBRID)
    classical = Device("alice", Suite.CLASSICAL).initiate(Device("bob", Suite.CLASSICAL), one_time=None)
    later, _ = pair(Suite.CLASSICAL)
    return Parser(feed, [alice.initiate(bob).encrypt(b"hello"), classical.encrypt(b"hello"), later.encrypt(b"hello")])


def _contents() -> list[bytes]:
    said = Content(
        ContentKind.BYTES, bytes(16), NOW, b"hello", conversation=ALICE, checkpoint="x", chain_head=bytes(32)
    )
    return [said.encode(), Content(ContentKind.GREETING, bytes(16), NOW).encode()]


def _password_door(data: bytes) -> None:
    """As far as one gets without hashing, which the cost must have been checked before."""
    stretching = Stretching.from_map(Door.parse(data, password_door.KIND).method, "door")
    assert stretching.cost.memory_kib <= 1024 * 1024


def _prepared() -> tuple[Prepared, Sign1]:
    made = prepare(SECRET, owner=OWNER, header=cast.USER, contacts=(CAROL, DAN, ERIN), k=2)
    return made, cose.sign(made.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=cast.AIK)


SET, SIGNED_SET = _prepared()
REQUEST, _ = ShareRequest.new(
    Header(ACME, ALICE, PHONE, NOW, NOW + 3600), device_hash=bytes(32), manifest_hash=SET.manifest.hash
)
CONTACTS_DEVICE: Final = cast.device_statement(header=Header(ACME, CAROL, PHONE, NOW))
PAIRING: Final = PairingRequest.new(cast.device_statement())
LETTER_KEY: Final = SealingKey.generate()
CODE: Final = EnrolmentCode.new(tenant=ACME, person=ALICE, root_pin=bytes(32), log_vkey=LOG.to_text())
SYNC: Final = DeviceSync(SECRET, 1, 1, "checkpoint", PAIRING.nonce)


def _share_letter() -> Parser:
    letter = seal_share(
        SET.shares[CAROL], manifest=SET.manifest, statement=SIGNED_SET, contact=CAROL, to=CONTACTS_DEVICE
    )
    return Parser(ShareLetter.parse, [letter])


def _sync_letter() -> Parser:
    letter = seal_sync(
        SYNC, header=cast.DEVICE, kind=SyncKind.DEVICE_DOOR, key=SIGNING, to=LETTER_KEY.public,
        request_hash=PAIRING.hash, head=bytes(32),
    )  # fmt: skip
    return Parser(lambda data: SyncLetter.open(data, key=LETTER_KEY, request_hash=PAIRING.hash), [letter])


def _pairing_messages() -> Parser:
    """Each message to each side; the first byte says to which."""
    new, existing = NewDevice(PAIRING), ExistingDevice(cast.device_statement())
    answer = existing.receive_commitment(new.commitment)
    reveal = new.answer(answer)

    def feed(data: bytes) -> None:
        side = data[0] % 3 if data else 0
        if side == 0:
            ExistingDevice(CONTACTS_DEVICE).receive_commitment(data[1:])
        elif side == 1:
            NewDevice(PAIRING).answer(data[1:])
        else:
            waiting = ExistingDevice(cast_device)
            waiting.receive_commitment(new.commitment)
            waiting.receive_reveal(data[1:])

    cast_device = existing.device
    return Parser(feed, [b"\0" + new.commitment, b"\1" + answer, b"\2" + reveal])


def _export() -> bytes:
    vault = seal_vault(SECRET, vault_key=SECRET, header=VaultHeader(ACME, ALICE, 1, 1))
    said = Sync(cast.USER, SyncKind.VAULT, hashlib.sha256(vault).digest(), 1)
    door = seal_password_door(SECRET, password=PASSWORD, owner=OWNER, cost=QUICK)
    signed = cose.sign(said.to_payload(), purpose=Purpose.SYNC, key=cast.AIK)
    return ExportFile.make(vault, signed, door, header=cast.DEVICE, key=cast.ISK).encode()


def _phrases() -> Parser:
    def feed(data: bytes) -> None:
        phrase = Phrase.parse(SecretBytes(data))
        assert Phrase.parse(phrase.text(), language=phrase.language) == phrase

    return Parser(feed, [Phrase(SECRET, language).text().reveal() for language in Language])


def _share_words(data: bytes) -> None:
    share = Share.parse(SecretBytes(data))
    assert Share.parse(share.mnemonic()) == share == Share.from_bytes(share.to_bytes())


def _checkpoints() -> Parser:
    """A note of one log: its signature first, as a client does, and then its text whatever the signature says."""
    note = sign_note(Checkpoint(LOG.name, 7, bytes(32), NOW).to_text(), verifier=LOG, sign=SIGNING.sign)

    def feed(text: str) -> None:
        Checkpoint.from_text(text.partition("\n\n")[0] + "\n")
        LOG.open(text)

    return Parser(text_of(feed), [note.encode()])


def _log_lines() -> Parser:
    leaf = LogEntry(bytes(16), "tenants:sign-in:accept", "device:x", b"", "subject", NOW, {"a": 1, "b": b"x"}).to_leaf()
    lines = [
        log_export.Header(LOG.name, LOG.to_text(), 1).to_line(),
        ExportedEntry(0, leaf, (bytes(32),)).to_line(),
        log_export.checkpoint_line("note"),
    ]

    def feed(data: bytes) -> None:
        if b'"checkpoint"' in data[:20]:
            assert log_export.checkpoint_line(log_export.read_checkpoint_line(data)) == data
        elif b'"format"' in data[:20]:
            assert log_export.Header.from_line(data).to_line() == data
        else:
            log_export.ExportedEntry.claimed(data)
            assert ExportedEntry.from_line(data).to_line() == data

    return ascii_text(feed, *lines)


def _log_leaves() -> Parser:
    entry = LogEntry(bytes(16), "tenants:sign-in:accept", "device:x", b"", "subject", NOW, {"a": 1, "b": b"x"})
    signed = entry.signed(origin=cast.ROLES.origin, key=cast.ROLE_KEYS[Role.WEB])
    key_leaf = KeyLogEntry(1, bytes(32), 3, bytes(32), NOW).to_leaf()

    def feed(data: bytes) -> None:
        log_export.readable(data)
        shape = KeyLogEntry if data[:2] == key_leaf[:2] else LogEntry
        assert shape.from_leaf(data).to_leaf() == data

    return Parser(feed, [entry.to_leaf(), signed.to_leaf(), key_leaf])


def _checked_leaves() -> Parser:
    """An entry as the sequencer and every reader check it: nothing is taken but the sample, which is signed."""
    entry = LogEntry(bytes(16), "tenants:sign-in:accept", "device:x", b"", "subject", NOW, {"a": 1, "b": b"x"})
    leaf = entry.signed(origin=cast.ROLES.origin, key=cast.ROLE_KEYS[Role.WEB]).to_leaf()

    def feed(data: bytes) -> None:
        check_leaf(data, index=0, roles=cast.ROLES)
        assert data == leaf

    return Parser(feed, [leaf])


def _archive_prefix() -> bytes:
    record = b"".join(archive.encrypt_segments([b"x"], archive_key=SECRET, tenant=ACME, user=ALICE, generation=7))
    return record[: archive.prefix_size(record)]


def _read_prefix(data: bytes) -> None:
    header, commit = archive.read_prefix(data)
    assert header.to_prefix(commit) == data


def _signature_fields() -> Parser:
    said = SignatureParameters("POST", NOW, UUID(int=7), bytes(16))

    def feed(text: str) -> None:
        head, _, tail = text.partition("\n")
        parameters, signature = parse_signature("POST", head, tail)
        assert parameters.fields(signature) == {"Signature-Input": head, "Signature": tail}

    return ascii_text(text_of(feed), "\n".join(said.fields(bytes(64)).values()).encode())


def _keys() -> list[bytes]:
    return [key.public.encoded for key in (SIGNING, SigningKey.generate(KeyKind.P256_SIGNING), LETTER_KEY, cast.RSA)]


def _custody_manifest() -> bytes:
    world = Custody()
    return b"".join(write_manifest(world.device, world.case, world.custody_lines(world.case, b"a", b"b", closes=True)))


def _record(data: bytes) -> None:
    assert Deposit.from_record(data).to_record() == data


def _kept_sessions() -> tuple[Session, Session]:
    """Both ends of a session; the second has skipped two keys of one message chain and one of the next."""
    hers, his = pair(Suite.CLASSICAL)
    hers.encrypt(b"lost")
    hers.encrypt(b"lost")
    his.decrypt(hers.encrypt(b"came"), now=NOW)
    hers.decrypt(his.encrypt(b"and back"), now=NOW)
    hers.encrypt(b"lost")
    his.decrypt(hers.encrypt(b"came"), now=NOW)
    return hers, his


def _vault_contents() -> bytes:
    return (
        Contents(
            identity_seeds=(SECRET,),
            generations=(Generation(1, SECRET, NOW, bytes(32), bytes(16), bytes(32)),),
            contacts=(Contact(CAROL, _chain_entries(), suite=1, verified=bytes(32)),),
            head=bytes(32),
            checkpoints={LOG.name: "note"},
            consent=b"",
            rows=(CarriedRow(KNOWN_DEVICE, PHONE, SecretBytes(encode([NOW, "phone"]))),),
        )
        .to_secret()
        .reveal()
    )


def _profile_head() -> Parser:
    """A head as it is read before its key is there: sealed under any key, it reads the same."""
    made = Head.new(tenant=ACME, user=ALICE)

    def feed(data: bytes) -> None:
        head = read_head(data)
        assert read_head(head.seal(SECRET)) == head

    return Parser(feed, [made.seal(SECRET), made.with_door(SECRET, passphrase=PASSWORD, cost=QUICK).seal(SECRET)])


def _answers() -> Parser:
    """An answer of a server, of which every field is read as everything that a field may be."""
    readers: list[Callable[[Answer, str], object]] = [
        Answer.text, Answer.number, Answer.flag, Answer.octets, Answer.identifier, Answer.time, Answer.one,
        Answer.many_octets, Answer.numbers, Answer.texts, lambda answer, name: answer.values(),
        lambda answer, name: list(answer.many(name)),
        lambda answer, name: list(answer.rows(name, 2)),
    ]  # fmt: skip

    def feed(data: bytes) -> None:
        answer = parse(data)
        for reader in readers:
            with suppress(AnswerRefused):
                reader(answer, "a")

    values = ['"AAEC"', "7", "true", "null", '"2026-11-24T10:00:00Z"', f'"{UUID(int=7)}"', '{"a":1.5}', '["AA",[1,2]]']
    return Parser(feed, [f'{{"a":{value}}}'.encode() for value in values])


def settled(read: Callable[[SecretBytes], Any], *samples: bytes) -> Parser:
    """Feed a reader of stored secrets whose order is its own: what it has written once, it writes for ever."""

    def feed(data: bytes) -> None:
        written = read(SecretBytes(data)).to_secret()
        assert read(written).to_secret() == written

    return Parser(feed, samples)


HERS, HIS = _kept_sessions()

PARSERS: Final[dict[str, Parser]] = {
    "cbor": both_ways(
        partial(decode, max_size=MAX_BLOB), encode, encode({1: [1, b"x", "é", -1, {}]}), encode(2**53 - 1)
    ),
    "base64url": ascii_text(text_of(lambda text: _same(b64u(unb64u(text)), text)), b"AAEC", b"AA"),
    "public-key": both_ways(partial(decode_public_key, expect=None), lambda key: key.encoded, *_keys()),
    "sign1": both_ways(Sign1.parse, Sign1.encode, SIGNED_SET.encode()),
    "many-signers": both_ways(cose.parse_many, cose.encode_many, cose.encode_many(cast.FOUNDING)),
    "payload": _payloads(),
    "chain-entry": both_ways(Entry.parse, Entry.encode, *_chain_entries()),
    "hybrid-leaf": _leaf(Suite.HYBRID),
    "classical-leaf": _leaf(Suite.CLASSICAL_P256),
    "leaves": Parser(_leaves, [Device("alice", Suite.HYBRID).batch.leaves]),
    "message": _messages(),
    "content": both_ways(Content.decode, Content.encode, *_contents()),
    "padding": both_ways(unpad, pad, pad(b""), pad(bytes(300))),
    "vault": Parser(read_header, [seal_vault(SECRET, vault_key=SECRET, header=VaultHeader(ACME, ALICE, 1, 1))]),
    "officers-section": Parser(
        partial(read_header, section=Section.OFFICERS),
        [seal_vault(SECRET, vault_key=SECRET, header=VaultHeader(ACME, ALICE, 1, 1, Section.OFFICERS))],
    ),
    "password-door": Parser(_password_door, [seal_password_door(SECRET, password=PASSWORD, owner=OWNER, cost=QUICK)]),
    "phrase-door": Parser(
        read_phrase_door,
        [
            seal_phrase_door(SECRET, phrase=Phrase(SECRET), owner=OWNER),
            seal_phrase_door(SECRET, phrase=Phrase(SECRET), owner=OWNER, passphrase=PASSWORD, cost=QUICK),
        ],
    ),
    "passkey-door": Parser(
        partial(read_passkey_door, section=Section.OFFICERS),
        [
            seal_passkey_door(
                SECRET, credential_id=b"credential", salt=bytes(32), prf_output=SECRET, owner=OFFICERS_SECTION
            )
        ],
    ),
    "officers-door": Parser(
        partial(Door.parse, kind=OFFICERS_SECTION.kind(password_door.KIND)),
        [seal_password_door(SECRET, password=PASSWORD, owner=OFFICERS_SECTION, cost=QUICK)],
    ),
    "contacts-door": Parser(partial(Door.parse, kind=contacts_door.KIND), [SET.door]),
    "manifest": both_ways(Manifest.from_payload, Manifest.to_payload, SET.manifest.to_payload()),
    "share-request": both_ways(ShareRequest.from_payload, ShareRequest.to_payload, REQUEST.to_payload()),
    "contact-share": both_ways(
        lambda data: ContactShare.from_secret(SecretBytes(data)),
        lambda share: share.to_secret().reveal(),
        *(share.to_secret().reveal() for share in SET.shares.values()),
    ),
    "share-letter": _share_letter(),
    "slip39": ascii_text(
        _share_words, *(Share.from_bytes(one.share).mnemonic().reveal() for one in SET.shares.values())
    ),
    "slip39-bytes": both_ways(
        lambda data: Share.from_bytes(SecretBytes(data)),
        lambda share: share.to_bytes().reveal(),
        *(share.share.reveal() for share in SET.shares.values()),
    ),
    "phrase": _phrases(),
    "pairing-text": ascii_text(
        text_of(lambda text: _reads_again(PairingRequest.parse(text), PairingRequest.parse)), PAIRING.text().encode()
    ),
    "pairing-request": both_ways(PairingRequest.from_bytes, PairingRequest.to_bytes, PAIRING.to_bytes()),
    "pairing-message": _pairing_messages(),
    "sync-letter": _sync_letter(),
    "device-sync": both_ways(
        lambda data: DeviceSync.from_secret(SecretBytes(data)),
        lambda sync: sync.to_secret().reveal(),
        SYNC.to_secret().reveal(),
        replace(SYNC, officers=OfficersKey(SECRET, 2, 3)).to_secret().reveal(),
    ),
    "export-file": both_ways(ExportFile.parse, ExportFile.encode, _export()),
    "enrolment-code": ascii_text(
        text_of(lambda text: _reads_again(EnrolmentCode.parse(text), EnrolmentCode.parse)), CODE.text().encode()
    ),
    "enrolment-fields": both_ways(
        # With the checksum that fits: what is behind it is to be reached.
        lambda data: EnrolmentCode.parse(enrolment.PREFIX + b64u(data + enrolment._checksum(data))),
        lambda code: unb64u(code.text().removeprefix(enrolment.PREFIX))[: -enrolment.CHECKSUM_SIZE],
        unb64u(CODE.text().removeprefix(enrolment.PREFIX))[: -enrolment.CHECKSUM_SIZE],
    ),
    "deposit-record": Parser(_record, [one.to_record() for one in Custody().deposits.values()]),
    "custody-manifest": both_ways(
        lambda data: read_manifest(data.splitlines(keepends=True)),
        lambda manifest: b"".join(manifest.to_lines()),
        _custody_manifest(),
    ),
    "archive-prefix": Parser(_read_prefix, [_archive_prefix()]),
    "checkpoint": _checkpoints(),
    "verifier-key": ascii_text(text_of(NoteVerifier.from_text), LOG.to_text().encode()),
    "log-line": _log_lines(),
    "log-leaf": _log_leaves(),
    "checked-leaf": _checked_leaves(),
    "roles": both_ways(Roles.from_payload, Roles.to_payload, cast.ROLES.to_payload()),
    "signature-fields": _signature_fields(),
    "session": both_ways(
        lambda data: Session.from_secret(SecretBytes(data)),
        lambda session: session.to_secret().reveal(),
        *(one.to_secret().reveal() for one in (HERS, HIS)),
    ),
    "skipped-keys": settled(SkippedKeys.from_secret, HIS.skipped_to_secret().reveal()),
    "vault-contents": settled(Contents.from_secret, _vault_contents()),
    "profile-head": _profile_head(),
    "answer": _answers(),
}


def _reads_again(read: Any, parse: Callable[[str], Any]) -> None:
    """Of a text that people copy, which has many spellings: the one that is written is read as the same."""
    assert parse(read.text()) == read


def _same(written: str, read: str) -> None:
    assert written == read, f"read as {written!r}"
