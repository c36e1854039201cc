# SPDX-License-Identifier: Apache-2.0
"""A vault and its doors, each with what opens it, and doors that nothing may open."""

from __future__ import annotations

from typing import Any

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.vault import contacts_door, passkey_door, phrase_door
from holdfast.core.vault.blob import Section, VaultHeader, seal_vault
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner, seal_password_door, sign_in_proof
from tests.cast.statements import ACME, ALICE
from tests.published.mutations import malformed, rows

OWNER = DoorOwner(ACME, ALICE, 3)
OFFICERS = DoorOwner(ACME, ALICE, 3, Section.OFFICERS)
VAULT_KEY = SecretBytes(bytes(range(32)))
KEYRING = SecretBytes(b"what only the user's devices read")
PASSWORD, PASSPHRASE = "correct horse é", "a café"
ENTROPY, SECRET = SecretBytes(bytes(range(100, 132))), SecretBytes(bytes(range(50, 82)))
SET = bytes(range(16))
CREDENTIAL, SALT, PRF = b"credential of a passkey", bytes(range(32, 64)), SecretBytes(bytes(range(64, 96)))
QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def write() -> dict[str, object]:
    """Make the file anew: salts and nonces are fresh each time."""
    made = _doors()
    vault = seal_vault(KEYRING, vault_key=VAULT_KEY, header=VaultHeader(ACME, ALICE, OWNER.epoch, 9))
    header = VaultHeader(ACME, ALICE, OWNER.epoch, 9, Section.OFFICERS)
    section = seal_vault(KEYRING, vault_key=VAULT_KEY, header=header)
    password: Any = decode(made["password"][0])
    proof = sign_in_proof(SecretBytes(PASSWORD.encode()), cost=QUICK, salt=password[3][6], tenant=ACME, user=ALICE)
    return {
        "page": "docs/formats/doors.md",
        "owner": {"tenant": ACME.hex(), "user": ALICE.hex(), "epoch": OWNER.epoch},
        "vault_key": VAULT_KEY.reveal().hex(),
        "vault": {"keyring": KEYRING.reveal().hex(), "version": 9, "blob": vault.hex()},
        "officers_section": {"keyring": KEYRING.reveal().hex(), "version": 9, "blob": section.hex()},
        "doors": [{"name": name, "blob": blob.hex(), **opened_by} for name, (blob, opened_by) in made.items()],
        "sign_in_proof": {"password": PASSWORD, "of_door": "password", "proof": proof.reveal().hex()},
        "refused": [row for name, (blob, _) in made.items() for row in rows(_mutations(blob), name=name)],
        "refused_vaults": rows(_sealed(vault) | malformed(vault) | _relabelled(vault, section)),
        "refused_sections": rows(_sealed(section) | malformed(section) | _relabelled(section, vault)),
    }


def _doors() -> dict[str, tuple[bytes, dict[str, Any]]]:
    entropy = ENTROPY.reveal().hex()
    phrase, given = Phrase(ENTROPY, Language.KOREAN), SecretBytes(PASSPHRASE.encode())
    return {
        "password": (
            seal_password_door(VAULT_KEY, password=SecretBytes(PASSWORD.encode()), owner=OWNER, cost=QUICK),
            {"kind": "password", "password": PASSWORD},
        ),
        "phrase": (
            phrase_door.seal_phrase_door(VAULT_KEY, phrase=phrase, owner=OWNER),
            {"kind": "phrase", "entropy": entropy, "language": "korean", "passphrase": None},
        ),
        "phrase and passphrase": (
            phrase_door.seal_phrase_door(VAULT_KEY, phrase=phrase, owner=OWNER, passphrase=given, cost=QUICK),
            {"kind": "phrase", "entropy": entropy, "language": "korean", "passphrase": PASSPHRASE},
        ),
        "contacts": (
            contacts_door.seal_contacts_door(VAULT_KEY, secret=SECRET, set_id=SET, owner=OWNER),
            {"kind": "contacts", "secret": SECRET.reveal().hex(), "set": SET.hex()},
        ),
        "passkey": (
            _passkey(OWNER),
            {"kind": "passkey", "credential_id": CREDENTIAL.hex(), "prf_output": PRF.reveal().hex()},
        ),
        "password of the officers' section": (
            seal_password_door(VAULT_KEY, password=SecretBytes(PASSWORD.encode()), owner=OFFICERS, cost=QUICK),
            {"kind": "password", "section": "officers", "password": PASSWORD},
        ),
        "phrase of the officers' section": (
            phrase_door.seal_phrase_door(VAULT_KEY, phrase=phrase, owner=OFFICERS),
            {"kind": "phrase", "section": "officers", "entropy": entropy, "language": "korean", "passphrase": None},
        ),
        "passkey of the officers' section": (
            _passkey(OFFICERS),
            {
                "kind": "passkey",
                "section": "officers",
                "credential_id": CREDENTIAL.hex(),
                "prf_output": PRF.reveal().hex(),
            },
        ),
    }


def _passkey(owner: DoorOwner) -> bytes:
    return passkey_door.seal_passkey_door(VAULT_KEY, credential_id=CREDENTIAL, salt=SALT, prf_output=PRF, owner=owner)


def _relabelled(blob: bytes, other: bytes) -> dict[str, bytes]:
    """The other section's blob under the same key, as it is and under this one's name."""
    mine: Any = decode(blob)
    theirs: Any = decode(other)
    return {"the other section": other, "the other section by this name": encode({**theirs, 2: mine[2]})}


def _mutations(blob: bytes) -> dict[str, bytes]:
    """Malformed doors, and well-formed ones that do not open for OWNER with the right secret."""
    value: Any = decode(blob)
    forms = malformed(blob) | _sealed(blob)
    forms["an unused field 7"] = encode({**value, 7: 0})
    forms["another kind"] = encode({**value, 2: "device"})
    other = value[2].removeprefix("officers-") if value[2].startswith("officers-") else f"officers-{value[2]}"
    forms["the other section's kind"] = encode({**value, 2: other})
    method = value[3]
    if value[2].endswith("password"):
        forms |= {why: encode({**value, 3: {**method, **change}}) for why, change in _COSTS.items()}
    elif 3 in method and value[2].endswith("phrase"):
        changed = {why: {**method, 3: {**method[3], **change}} for why, change in _COSTS.items()}
        forms |= {why: encode({**value, 3: one}) for why, one in changed.items()}
    return forms


def _sealed(blob: bytes) -> dict[str, bytes]:
    value: Any = decode(blob)
    flipped = {key: bytes([value[key][0] ^ 1]) + value[key][1:] for key in (8, 9, 10)}
    return {
        "another nonce": encode({**value, 8: flipped[8]}),
        "another commitment": encode({**value, 9: flipped[9]}),
        "another ciphertext": encode({**value, 10: flipped[10]}),
        "a short ciphertext": encode({**value, 10: value[10][:-1]}),
    }


_COSTS: dict[str, dict[int, Any]] = {
    "too little memory": {3: 19 * 1024 - 1},
    "too much memory": {3: 1024 * 1024 + 1},
    "memory of 2^53 - 1": {3: 2**53 - 1},
    "one pass": {4: 1},
    "eleven passes": {4: 11},
    "no lane": {5: 0},
    "nine lanes": {5: 9},
    "another algorithm": {1: "scrypt"},
    "Argon2 version 0x10": {2: 0x10},
    "a short salt": {6: bytes(8)},
}
