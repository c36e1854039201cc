# SPDX-License-Identifier: Apache-2.0
"""The phrase door: a blob that gives the vault key VK to whoever has the 24 words, and the key they sign with.

Implements PROTOCOL section 6 "Phrase door".
Does not read words: `phrase` does. Does not decide when a phrase counts: its owner confirms it first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import Encodable, Fields, label
from holdfast.core.base.errors import Unusable
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.crypto.phrase import Language, Phrase
from holdfast.core.crypto.stretching import DEFAULT_COST, SALT_SIZE, Argon2Cost, Stretching, canonical, readings
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import Door, DoorHead, DoorOwner

KIND: Final = "phrase"  # field 2 of the blob: one kind's door is never tried as another's
_OKM_SIZE: Final = 96  # wrap key, commit key, and 32 bytes that version 1 does not use
# Bytes: 256 bits and 128 more, so that reducing to a P-256 scalar shows no bias. FIPS 186-5 appendix A.2.1.
_SIGNING_SIZE: Final = 48


@dataclass(frozen=True, slots=True)
class PhraseDoor:
    """What a phrase door says of itself, unauthenticated: enough to know what to ask its owner for."""

    language: Language
    has_passphrase: bool


@dataclass(frozen=True, slots=True)
class _Method:
    """Field 3: {1: salt, 2: language, 3: how the passphrase is stretched, when there is one}."""

    salt: bytes
    language: Language
    stretching: Stretching | None

    def to_map(self) -> dict[int, Encodable]:
        stretching = {3: self.stretching.to_map()} if self.stretching else {}
        return {1: self.salt, 2: self.language.value, **stretching}

    @classmethod
    def of(cls, door: Door) -> _Method:
        read = Fields(door.method, "phrase door, field 3", (1, 2), (3,))
        try:
            language = Language(read.text(2))
        except ValueError:
            raise read.refuse(2, "is not a language of BIP-39") from None
        stretching = Stretching.from_map(read.value(3), "phrase door, field 3.3") if 3 in read else None
        return cls(read.octets(1, SALT_SIZE), language, stretching)

    def key(self, phrase: Phrase, reading: SecretBytes | None, owner: DoorOwner) -> wrapping.CommittedKey:
        # The entropy and not BIP-39's seed: 256 random bits need no stretching.
        ikm = phrase.entropy.reveal()
        if reading is not None and self.stretching is not None:
            ikm += self.stretching.stretch(reading).reveal()
        okm = wrapping.hkdf(
            salt=self.salt,
            ikm=SecretBytes(ikm),
            # Epoch and method are bound by the aad. The owner is here too: one phrase
            # used for two accounts gives two keys.
            info=label(owner.kind(KIND), owner.tenant, owner.user),
            length=_OKM_SIZE,
        ).reveal()
        return wrapping.CommittedKey(SecretBytes(okm[:32]), SecretBytes(okm[32:64]))


def seal_phrase_door(
    vault_key: SecretBytes,
    *,
    phrase: Phrase,
    owner: DoorOwner,
    passphrase: SecretBytes | None = None,
    cost: Argon2Cost = DEFAULT_COST,
) -> bytes:
    """Wrap the 32-byte vault key under a phrase, and a passphrase beside it if one is given.

    Raises Unusable for an empty or unreadable passphrase; ValueError for a vault key of another length (the
    caller's mistake).
    """
    chosen = _chosen(passphrase)
    stretching = Stretching.fresh(cost) if chosen is not None else None
    # A salt of its own beside the passphrase's: the phrase's key does not rest on whether there is one.
    method = _Method(Stretching.fresh().salt, phrase.language, stretching)
    return DoorHead(owner.kind(KIND), method.to_map(), owner).seal(vault_key, method.key(phrase, chosen, owner))


def open_phrase_door(
    blob: bytes, *, phrase: Phrase, owner: DoorOwner, passphrase: SecretBytes | None = None
) -> SecretBytes:
    """Return the 32-byte vault key.

    A passphrase given to a door that has none is not used. Raises Malformed for bytes outside the format and
    OutOfBounds for an Argon2 cost outside the bounds, both before hashing; UnwrapFailed for another phrase, a
    wrong or missing passphrase, tampering, or another tenant's, user's or epoch's door; Unusable for what can be no
    passphrase.
    """
    door = Door.parse(blob, owner.kind(KIND))
    method = _Method.of(door)
    tried = readings(passphrase) if passphrase is not None and method.stretching is not None else (None,)
    return door.open_by(owner, (method.key(phrase, reading, owner) for reading in tried))


def read_phrase_door(blob: bytes, section: Section = Section.VAULT) -> PhraseDoor:
    """Return the door's language and whether it asks for a passphrase. Raises as open_phrase_door does."""
    method = _Method.of(Door.parse(blob, DoorOwner(b"", b"", 0, section).kind(KIND)))
    return PhraseDoor(method.language, method.stretching is not None)


def recovery_key(
    phrase: Phrase, *, tenant: bytes, user: bytes, kind: KeyKind, passphrase: SecretBytes | None = None
) -> SigningKey:
    """Return the signing key that the phrase holds, whose public half the account chain names.

    It rests on nothing stored, so that it is there when every server and every door is gone; a passphrase is
    stretched at the default cost under a salt of the account's own. kind: Ed25519 or P-256, as the suite signs.
    Raises Unusable for an empty or unreadable passphrase.
    """
    return _recovery_key(phrase, tenant, user, kind, _chosen(passphrase))


def recovery_keys(
    phrase: Phrase, *, tenant: bytes, user: bytes, kind: KeyKind, passphrase: SecretBytes | None = None
) -> Iterator[SigningKey]:
    """Return the keys that the chain may name for the phrase: one for each of the passphrase's `readings`.

    The first is `recovery_key`. Each is stretched only when it is asked for. Raises Unusable as that does.
    """
    if passphrase is None:
        yield _recovery_key(phrase, tenant, user, kind, None)
        return
    for reading in readings(passphrase):
        if len(reading):
            yield _recovery_key(phrase, tenant, user, kind, reading)


def _recovery_key(phrase: Phrase, tenant: bytes, user: bytes, kind: KeyKind, reading: SecretBytes | None) -> SigningKey:
    ikm = phrase.entropy.reveal()
    if reading is not None:
        # The words alone must not sign where they alone do not open: peers follow such a rotation.
        salt = hashlib.sha256(label("recovery", tenant, user)).digest()[:SALT_SIZE]
        ikm += Stretching(DEFAULT_COST, salt).stretch(reading).reveal()
    octets = wrapping.hkdf(
        # A fixed salt: anything stored could be lost or changed by a server, and this
        # key is for when all of that is gone.
        salt=label("recovery"),
        ikm=SecretBytes(ikm),
        # One phrase for two accounts, or two suites, gives keys that say nothing of each other.
        info=label("recovery", tenant, user, int(kind)),
        length=_SIGNING_SIZE,
    )
    return SigningKey.from_uniform(kind, octets)


def _chosen(passphrase: SecretBytes | None) -> SecretBytes | None:
    if passphrase is None:
        return None
    chosen = canonical(passphrase)
    if not len(chosen):
        # Nothing typed is no passphrase: None says so, and the door then does not ask for one.
        raise Unusable("a passphrase is not empty")
    return chosen
