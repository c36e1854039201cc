# SPDX-License-Identifier: Apache-2.0
"""What one device remembers between commands, and its bytes inside the encrypted profile and the vault.

Implements PROTOCOL section 2 (vault contents) in the strict CBOR profile.
Does not judge anything: what is pinned here was verified by the module that put it here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from holdfast.core.base.encoding import MAX_VAULT
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import (
    flag,
    mapping,
    nested,
    nested_map,
    octets,
    open_map,
    seal_map,
    secret,
    several,
    text,
    uint,
)
from holdfast.core.base.secret import SecretBytes

VERSION: Final = 1  # docs/formats/profile.md
MAX_STATE: Final = 2 * MAX_VAULT - 4096  # with its frame, what a row holds


@dataclass
class Trust:
    """What this client holds its tenant to. `pin` is 32 bytes; `is_tofu` says it was taken from the server.

    policies, escrow_keys: every version's statement as received, oldest first, each verified when taken.
    log_keys: the verifier keys that sign the logs, newest first: those that `roles` names, before there is one the
    code's. checkpoints: per log origin, the newest signed checkpoint this client has seen. roles: the newest statement
    of the tenant root on whose keys write and sign the logs, as received and verified; None before there was one.
    withdrawals: the resolutions that withdrew a policy version, as received and verified. founding_root: 32 bytes, by
    which a code of a tenant without a policy named its root; None once a policy was published. A pin beside it is of
    the first policy that this person signed.
    """

    pin: Annotated[bytes, octets(0, 32).at(1)] = b""
    is_tofu: Annotated[bool, flag().at(2)] = False
    is_development: Annotated[bool, flag().at(3)] = False
    root_key: Annotated[bytes, octets().at(4)] = b""
    policies: Annotated[list[bytes], several(octets()).at(5)] = field(default_factory=list)
    escrow_keys: Annotated[list[bytes], several(octets()).at(6)] = field(default_factory=list)
    log_keys: Annotated[list[str], several(text(maximum=4096)).at(7)] = field(default_factory=list)
    checkpoints: Annotated[dict[str, str], mapping(text(), text(maximum=4096)).at(8)] = field(default_factory=dict)
    roles: Annotated[bytes | None, octets().at(9, is_optional=True)] = None
    withdrawals: Annotated[list[bytes] | None, several(octets()).at(10, is_optional=True)] = None
    founding_root: Annotated[bytes | None, octets(32).at(11, is_optional=True)] = None


@dataclass
class Device:
    """This device: 16-byte id, three seeds of 32 bytes, its signed statement, and whether the chain lists it."""

    id: Annotated[bytes, octets(16).at(1)]
    signing_seed: Annotated[SecretBytes, secret(32).at(2)]
    agreement_seed: Annotated[SecretBytes, secret(32).at(3)]
    sealing_seed: Annotated[SecretBytes, secret(32).at(4)]
    statement: Annotated[bytes, octets().at(5)]
    is_active: Annotated[bool, flag().at(6)] = False


@dataclass
class Generation:
    """One archive key: generation g, 32-byte key, start, commitment; and its newest deposit, once acknowledged."""

    number: Annotated[int, uint()]
    key: Annotated[SecretBytes, secret(32)]
    not_before: Annotated[int, uint()]
    commitment: Annotated[bytes, octets(32)]
    deposit_id: Annotated[bytes, octets(0, 16)] = b""
    record_hash: Annotated[bytes, octets(0, 32)] = b""
    is_exposed: Annotated[bool, flag()] = False


@dataclass
class Contact:
    """A peer as pinned: the chain as verified, entry by entry, and the entries of a new beginning not yet confirmed.

    suite: the suite their devices were first seen with; 0 before any. verified: the chain head (32 bytes) at which two
    people compared a number or words; empty before, and after a new beginning.
    """

    ROW_SIZE: ClassVar = MAX_STATE

    user: Annotated[bytes, octets(16)]
    entries: Annotated[list[bytes], several(octets())]
    unconfirmed: Annotated[list[bytes], several(octets())] = field(default_factory=list)
    suite: Annotated[int, uint(maximum=4)] = 0
    verified: Annotated[bytes, octets(0, 32)] = b""


@dataclass
class VaultKey:
    """The key of the server-side vault: epoch, 32-byte VK (empty before there is one), highest version seen."""

    epoch: Annotated[int, uint()] = 0
    key: Annotated[SecretBytes, secret(0, 32)] = field(default_factory=lambda: SecretBytes(b""))
    version: Annotated[int, uint()] = 0


@dataclass
class OpenCase:
    """The case this device is the recipient of: keys made for it alone, destroyed when it ends.

    recipient_rsa: PKCS#8 DER. new_identity: the seed of the identity key that will begin the account again.
    """

    case_id: Annotated[bytes, octets(16)]
    statement: Annotated[bytes, octets()]
    recipient_rsa: Annotated[SecretBytes, secret()]
    recipient_seed: Annotated[SecretBytes, secret(32)]
    new_identity: Annotated[SecretBytes, secret(32)]


@dataclass
class OfficerKeys:
    """An officer's own two keys, apart from any device's: seeds of 32 bytes."""

    signing_seed: Annotated[SecretBytes, secret(32)]
    sealing_seed: Annotated[SecretBytes, secret(32)]


@dataclass
class OfficerPublicKeys:
    """The public halves of one pair of an officer's keys, encoded."""

    signing_key: Annotated[bytes, octets()]
    sealing_key: Annotated[bytes, octets()]


@dataclass
class OfficersSection:
    """The officers' section of the vault as this device knows it: epoch, its 32-byte key OK, highest version seen.

    keys: the public halves of every pair in it, oldest first. The pairs themselves are read from the section.
    """

    epoch: Annotated[int, uint()]
    key: Annotated[SecretBytes, secret(32)]
    version: Annotated[int, uint()] = 0
    keys: Annotated[list[OfficerPublicKeys], several(nested(OfficerPublicKeys, "officer public keys"))] = field(
        default_factory=list
    )


@dataclass
class State:
    """Everything of one profile. identity_seed is the AIK's, empty on a device that has not got it yet.

    chain: the user's own account chain, every entry as received and verified. contacts: kept as rows of their own
    (`state_rows`), and so in no bytes of the state.
    """

    ROW_SIZE: ClassVar = MAX_STATE

    # 7 and 9 were used by rows of earlier days and are not given again.
    server: Annotated[str, text().at(2)] = ""
    trust: Annotated[Trust, nested_map(Trust, "profile trust").at(3)] = field(default_factory=Trust)
    device: Annotated[Device | None, nested_map(Device, "profile device").at(4, is_optional=True)] = None
    identity_seed: Annotated[SecretBytes, secret(0, 32).at(5)] = field(default_factory=lambda: SecretBytes(b""))
    chain: Annotated[list[bytes], several(octets()).at(6)] = field(default_factory=list)
    generations: Annotated[list[Generation], several(nested(Generation, "profile generation")).at(8)] = field(
        default_factory=list
    )
    contacts: dict[bytes, Contact] = field(default_factory=dict)
    vault: Annotated[VaultKey, nested(VaultKey, "profile vault").at(10)] = field(default_factory=VaultKey)
    consent: Annotated[bytes, octets().at(11)] = b""
    case: Annotated[OpenCase | None, nested(OpenCase, "profile case").at(12, is_optional=True)] = None
    officer: Annotated[OfficerKeys | None, nested(OfficerKeys, "profile officer keys").at(13, is_optional=True)] = None
    officers_section: Annotated[
        OfficersSection | None, nested(OfficersSection, "profile officers' section").at(14, is_optional=True)
    ] = None
    version: Annotated[int, uint().at(1)] = VERSION

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the state without its contacts."""
        return seal_map(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> State:
        """Read the state. Raises Malformed for bytes that this version did not write."""
        state = open_map(cls, secret, "profile")
        if state.version != VERSION:
            raise Malformed("profile: written by another version of this program")
        return state

    def generation(self, number: int) -> Generation | None:
        """Return the archive key of one generation, if this device has it."""
        return next((generation for generation in self.generations if generation.number == number), None)
