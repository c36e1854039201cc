# SPDX-License-Identifier: Apache-2.0
"""A set of shares from its making to the secret: manifest, letters, request, answers, and what is refused."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import slip39
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.vault.contact_shares import answer_request, combine, prepare, seal_share
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import MAX_REQUEST_SECONDS, ShareRequest
from tests.cast.statements import ACME, ALICE, CAROL, DAN, ERIN, LAPTOP, NOW, PHONE, device_statement, hash_of, id_of
from tests.published.mutations import malformed, rows

CONTACTS = (CAROL, DAN, ERIN)
VAULT_KEY = SecretBytes(bytes(range(32)))


def write() -> dict[str, object]:
    """Make the file anew: its keys and its set are fresh each time."""
    aik = SigningKey.generate()
    made = prepare(
        VAULT_KEY, owner=DoorOwner(ACME, ALICE, 3), header=Header(ACME, ALICE, LAPTOP, NOW), contacts=CONTACTS, k=2
    )
    statement = cose.sign(made.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=aik)
    header = Header(ACME, ALICE, PHONE, NOW, NOW + MAX_REQUEST_SECONDS)
    request, key = ShareRequest.new(header, device_hash=hash_of("phone"), manifest_hash=made.manifest.hash)
    people = []
    for contact in CONTACTS:
        own, device = SealingKey.generate(), id_of("device of " + contact.hex())
        to = device_statement(header=Header(ACME, contact, device, NOW), sealing_key=own.public, person=contact)
        share = made.shares[contact]
        letter = seal_share(share, manifest=made.manifest, statement=statement, contact=contact, to=to)
        answer = answer_request(share, request=request, manifest=made.manifest, contact=contact, now=NOW)
        people.append(
            {
                "contact": contact.hex(),
                "device": device.hex(),
                "key_seed": own.seed().reveal().hex(),
                "share": share.to_secret().reveal().hex(),
                "words": slip39.Share.from_bytes(share.share).mnemonic().reveal().decode(),
                "letter": letter.hex(),
                "answer": answer.hex(),
            }
        )
    first = made.shares[CAROL]
    return {
        "page": "docs/formats/contacts.md",
        "owner": {"tenant": ACME.hex(), "user": ALICE.hex(), "epoch": 3, "aik": aik.public.encoded.hex()},
        "vault_key": VAULT_KEY.reveal().hex(),
        "door": made.door.hex(),
        "manifest": {"payload": made.manifest.to_payload().hex(), "hash": made.manifest.hash.hex(), "k": 2},
        "secret": combine(made.manifest, made.shares).reveal().hex(),
        "request": {
            "payload": request.to_payload().hex(),
            "hash": request.hash.hex(),
            "code": list(request.code),
            "key_seed": key.seed().reveal().hex(),
        },
        "people": people,
        "wrong_shares": [
            {"why": why, "contact": CAROL.hex(), "share": share.to_secret().reveal().hex()}
            for why, share in {
                "another set": replace(first, set_id=bytes(16)),
                "another blind": replace(first, blind=bytes(32)),
                "another contact's": made.shares[DAN],
            }.items()
        ],
        "refused": [
            *rows(malformed(made.manifest.to_payload()), format="manifest"),
            *rows(malformed(request.to_payload()), format="request"),
            *rows(_malformed_share(first.to_secret().reveal()), format="share"),
        ],
    }


def _malformed_share(octets: bytes) -> dict[str, bytes]:
    # A share's first field is its set: it has no version, being read only inside a letter that has one.
    return {why: form for why, form in malformed(octets).items() if why not in ("another version", "version 0")}
