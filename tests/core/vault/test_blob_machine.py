# SPDX-License-Identifier: Apache-2.0
"""A vault and its doors through any history, beside a model that knows no cryptography.

The server keeps everything that it was ever given and shows whatever it likes: old vaults under new numbers, doors of
other epochs. What opens, and to what, must be what the model says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.signed.payloads import Header
from holdfast.core.vault.blob import VaultHeader, new_vault_key, open_vault, seal_vault
from holdfast.core.vault.contact_shares import Prepared, combine, prepare
from holdfast.core.vault.contacts_door import open_contacts_door
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner, open_password_door, seal_password_door
from holdfast.core.vault.phrase_door import open_phrase_door, seal_phrase_door
from tests.cast.statements import ACME, ALICE, LAPTOP, NOW, id_of

QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
CONTACTS = tuple(id_of(name) for name in ("bob", "carol", "dan"))
NUMBERS = st.integers(0, 3)


@dataclass(frozen=True)
class Written:
    """A vault as the model has it: which epoch and version, and what was in it."""

    epoch: int
    version: int
    keyring: bytes
    blob: bytes


@dataclass(frozen=True)
class Hung:
    """A door as the model has it: the epoch that it was made in, and how it opens for an owner."""

    kind: str
    epoch: int
    blob: bytes
    open: Callable[[bytes, DoorOwner], SecretBytes]


class VaultMachine(RuleBasedStateMachine):
    """Alice writes, rotates and hangs doors; the server mixes."""

    vaults = Bundle("vaults")
    doors = Bundle("doors")

    def __init__(self) -> None:
        super().__init__()
        self.epoch, self.version = 1, 0
        self.keys = {1: new_vault_key()}
        self.newest: Written | None = None

    def owner(self, epoch: int | None = None) -> DoorOwner:
        return DoorOwner(ACME, ALICE, self.epoch if epoch is None else epoch)

    @rule(target=vaults, keyring=st.binary(max_size=64))
    def write(self, keyring: bytes) -> Written:
        self.version += 1
        header = VaultHeader(ACME, ALICE, self.epoch, self.version)
        blob = seal_vault(SecretBytes(keyring), vault_key=self.keys[self.epoch], header=header)
        self.newest = Written(self.epoch, self.version, keyring, blob)
        return self.newest

    @rule()
    def rotate(self) -> None:
        self.epoch += 1
        self.keys[self.epoch] = new_vault_key()

    @rule(target=doors, number=NUMBERS)
    def hang_a_password_door(self, number: int) -> Hung:
        password = SecretBytes(f"password number {number}".encode())
        blob = seal_password_door(self.keys[self.epoch], password=password, owner=self.owner(), cost=QUICK)
        return Hung("password", self.epoch, blob, lambda b, who: open_password_door(b, password=password, owner=who))

    @rule(target=doors, number=NUMBERS)
    def hang_a_phrase_door(self, number: int) -> Hung:
        phrase = Phrase(SecretBytes(bytes([number]) * 32))
        blob = seal_phrase_door(self.keys[self.epoch], phrase=phrase, owner=self.owner())
        return Hung("phrase", self.epoch, blob, lambda b, who: open_phrase_door(b, phrase=phrase, owner=who))

    @rule(target=doors, givers=st.permutations(CONTACTS))
    def hang_a_contacts_door(self, givers: list[bytes]) -> Hung:
        header = Header(ACME, ALICE, LAPTOP, NOW)
        made: Prepared = prepare(self.keys[self.epoch], owner=self.owner(), header=header, contacts=CONTACTS, k=2)
        secret = combine(made.manifest, {one: made.shares[one] for one in givers[:2]})
        return Hung(
            "contacts",
            self.epoch,
            made.door,
            lambda b, who: open_contacts_door(b, secret=secret, set_id=made.manifest.set_id, owner=who),
        )

    @rule(vault=vaults, door=doors)
    def open_an_honest_answer(self, vault: Written, door: Hung) -> None:
        """A door gives what was written in its own epoch and nothing that was written in another."""
        key = door.open(door.blob, self.owner(door.epoch))
        assert key == self.keys[door.epoch]
        header = VaultHeader(ACME, ALICE, vault.epoch, vault.version)
        if door.epoch == vault.epoch:
            assert open_vault(vault.blob, vault_key=key, expect=header).reveal() == vault.keyring
        else:
            assert _refused(lambda: open_vault(vault.blob, vault_key=key, expect=header))

    @rule(door=doors, epoch=st.integers(1, 6))
    def open_a_door_of_another_epoch(self, door: Hung, epoch: int) -> None:
        opened = _opened(lambda: door.open(door.blob, self.owner(epoch)))
        assert (opened is not None) == (epoch == door.epoch)

    @rule(one=doors, other=doors)
    def open_one_door_by_the_secret_of_another(self, one: Hung, other: Hung) -> None:
        opened = _opened(lambda: other.open(one.blob, self.owner(one.epoch)))
        assert opened is None or (opened == self.keys[one.epoch] and one.kind == other.kind)

    @rule(vault=vaults, epoch=st.integers(1, 6), version=st.integers(1, 12), relabel=st.booleans())
    def show_an_older_vault_as_another(self, vault: Written, epoch: int, version: int, relabel: bool) -> None:
        """Rollback: whatever numbers the server writes on a blob, it opens as what it is or not at all."""
        blob = vault.blob
        if relabel:
            value: Any = decode(blob)
            blob = encode({**value, 6: epoch, 7: version})
        header = VaultHeader(ACME, ALICE, epoch, version)
        key = self.keys.get(epoch, self.keys[1])
        opened = _opened(lambda: open_vault(blob, vault_key=key, expect=header))
        assert (opened is not None) == ((epoch, version) == (vault.epoch, vault.version))

    @rule(vault=consumes(vaults), at=st.integers(0, 400), flip=st.integers(1, 255))
    def damage_a_vault(self, vault: Written, at: int, flip: int) -> None:
        at %= len(vault.blob)
        damaged = vault.blob[:at] + bytes([vault.blob[at] ^ flip]) + vault.blob[at + 1 :]
        header = VaultHeader(ACME, ALICE, vault.epoch, vault.version)
        opened = _opened(lambda: open_vault(damaged, vault_key=self.keys[vault.epoch], expect=header))
        assert opened is None or opened.reveal() == vault.keyring

    @rule(vault=vaults)
    def open_for_somebody_else(self, vault: Written) -> None:
        header = VaultHeader(ACME, id_of("mallory"), vault.epoch, vault.version)
        for expect in (header, replace(header, tenant=id_of("mallory's tenant"), user=ALICE)):
            assert _refused(
                lambda expect=expect: open_vault(  # type: ignore[misc]
                    vault.blob, vault_key=self.keys[vault.epoch], expect=expect
                )
            )

    @invariant()
    def the_newest_vault_opens_under_the_key_of_its_epoch(self) -> None:
        if self.newest:
            header = VaultHeader(ACME, ALICE, self.newest.epoch, self.newest.version)
            opened = open_vault(self.newest.blob, vault_key=self.keys[self.newest.epoch], expect=header)
            assert opened.reveal() == self.newest.keyring


def _opened(attempt: Callable[[], SecretBytes]) -> SecretBytes | None:
    try:
        return attempt()
    except HoldfastError:
        return None


def _refused(attempt: Callable[[], SecretBytes]) -> bool:
    try:
        attempt()
    except UnwrapFailed:
        return True
    return False


TestVault = VaultMachine.TestCase
TestVault.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
