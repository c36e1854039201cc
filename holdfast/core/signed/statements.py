# SPDX-License-Identifier: Apache-2.0
"""The payloads of signed statements: header and fields, to bytes and back.

Implements the table of PROTOCOL section 3; pre-keys, policies, cases and approvals are in
`prekeys`, `policy` and `cases`.
Does not check who signed: the caller verifies first, then reads the payload here.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    MAX_U32,
    Header,
    check_time,
    close_payload,
    open_payload,
    read_key,
    read_suite,
    require_device,
    require_tenant_only,
    require_user,
)

__all__ = [
    "ArchiveStatement",
    "Consent",
    "DepositStatement",
    "DeviceStatement",
    "EscrowKey",
    "ExportStatement",
    "Header",
    "OfflineKey",
    "Purpose",
    "Sync",
    "SyncKind",
    "check_time",
]

# A device writes its own name and others are shown it, in lists and notices: this keeps it to one line.
MAX_NAME: Final = 64  # characters


@dataclass(frozen=True)
class DeviceStatement:
    """A device binds its three keys and its suite, signed by its own signing key to prove possession."""

    PURPOSE: ClassVar = Purpose.DEVICE

    header: Header
    suite: Suite
    signing_key: PublicKey
    agreement_key: PublicKey
    sealing_key: PublicKey
    person: bytes
    name: str
    enrolment_hash: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `device`."""
        return self._payload()

    def is_in(self, payload: bytes) -> bool:
        """Whether a payload says just this: nothing is given out, so nothing is read back."""
        return self._payload() == payload

    def _payload(self) -> bytes:
        return close_payload(
            self.header,
            {
                7: int(self.suite),
                8: self.signing_key.encoded,
                9: self.agreement_key.encoded,
                10: self.sealing_key.encoded,
                11: self.person,
                12: self.name,
                13: self.enrolment_hash,
            },
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "DeviceStatement":
        """Read the payload; raises Malformed, also for keys of another suite."""
        header, fields = open_payload(payload, "device statement", range(7, 14))
        require_device(header, "device statement")
        # The suite is read first, as it decides which kinds of key the next fields may hold: nothing is mixed.
        suite = read_suite(fields, 7)
        return cls(
            header=header,
            suite=suite,
            signing_key=read_key(fields, 8, suite.signing_kind),
            agreement_key=read_key(fields, 9, suite.agreement_kind),
            # One kind in every suite: sealing is HPKE with X-Wing throughout (PROTOCOL section 1).
            sealing_key=read_key(fields, 10, KeyKind.X_WING),
            person=fields.octets(11, ID_SIZE),
            name=fields.text(12, maximum=MAX_NAME),
            # Empty for a device that an existing one adds without a code.
            enrolment_hash=fields.octets(13, (0, HASH_SIZE)),
        )

    @classmethod
    def open(cls, statement: Sign1) -> "DeviceStatement":
        """Read a statement and check its own key's signature. Raises Malformed or InvalidSignature.

        The key stands inside the payload, so this one payload is read before it is verified. What it proves
        is possession; that the device is the user's, only their account chain says.
        """
        device = cls.from_payload(statement.payload)
        statement.verify(device.signing_key, purpose=cls.PURPOSE)
        return device


class SyncKind(IntEnum):
    """Field 7 of a `sync` statement. What lies on the server is signed by the AIK, letters by the device's ISK."""

    VAULT = 1
    DEVICE_DOOR = 2
    DEVICE_TO_DEVICE = 3
    OFFICERS = 4  # the officers' section of the vault


@dataclass(frozen=True)
class Sync:
    """A blob in its version, so that a server can neither swap nor roll it back unseen."""

    PURPOSE: ClassVar = Purpose.SYNC

    header: Header
    kind: SyncKind
    blob_hash: bytes
    version: int

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `sync`."""
        return close_payload(self.header, {7: int(self.kind), 8: self.blob_hash, 9: self.version})

    @classmethod
    def from_payload(cls, payload: bytes) -> "Sync":
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "sync statement", (7, 8, 9))
        require_user(header, "sync statement")
        # Signed, so a letter between devices cannot be shown as the vault, which another key signs.
        kind = SyncKind(fields.uint(7, minimum=1, maximum=len(SyncKind)))
        return cls(header, kind, fields.octets(8, HASH_SIZE), fields.uint(9))


@dataclass(frozen=True)
class Consent:
    """A user's answer to one policy and one wording, signed by their AIK."""

    PURPOSE: ClassVar = Purpose.CONSENT

    header: Header
    policy_hash: bytes
    text_hash: bytes
    agreed: bool

    @property
    def order(self) -> tuple[int, bool]:
        """What says which of a person's answers is the later one. Of two of one second, it is the no."""
        return self.header.issued_at, not self.agreed

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `consent`."""
        return close_payload(self.header, {7: self.policy_hash, 8: self.text_hash, 9: int(self.agreed)})

    @classmethod
    def from_payload(cls, payload: bytes) -> "Consent":
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "consent", (7, 8, 9))
        require_user(header, "consent")
        return cls(
            header=header,
            policy_hash=fields.octets(7, HASH_SIZE),
            text_hash=fields.octets(8, HASH_SIZE),
            # A no is signed as a yes is: the server can neither turn one into the other nor say that none was given
            # (FAULTS S2).
            agreed=bool(fields.uint(9, maximum=1)),
        )


@dataclass(frozen=True)
class _TenantKey:
    """What the statements of the escrow key and of the offline key share."""

    PURPOSE: ClassVar[Purpose]
    KIND: ClassVar[KeyKind]
    ALGORITHMS: ClassVar[frozenset[str]]

    header: Header
    key: PublicKey
    version: int
    algorithm: str
    predecessor: bytes
    policy_hash: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `escrow-key` and `offline-key`."""
        return close_payload(
            self.header,
            {
                7: self.key.encoded,
                8: self.version,
                9: self.algorithm,
                10: self.predecessor,
                11: self.policy_hash,
            },
        )

    @classmethod
    def _read(cls, payload: bytes) -> "tuple[Header, PublicKey, int, str, bytes, bytes]":
        what = f"{cls.PURPOSE.value} statement"
        header, fields = open_payload(payload, what, range(7, 12))
        # Before the fields: a user's statement is none of the tenant's, whatever key has signed it.
        require_tenant_only(header, what)
        version = fields.uint(8, minimum=1, maximum=MAX_U32)
        algorithm = fields.text(9, maximum=16)
        if algorithm not in cls.ALGORITHMS:
            raise fields.refuse(9, "is not a known algorithm")
        # The first version has no predecessor and every later one names exactly one.
        predecessor = fields.octets(10, HASH_SIZE if version > 1 else 0)
        key = read_key(fields, 7, cls.KIND)
        return header, key, version, algorithm, predecessor, fields.octets(11, HASH_SIZE)


@dataclass(frozen=True)
class EscrowKey(_TenantKey):
    """The tenant's RSA-3072 escrow key, whose private half never leaves the HSM."""

    PURPOSE = Purpose.ESCROW_KEY
    KIND = KeyKind.RSA_3072
    # SHA-1 is for development tenants; a text outside the list is refused here, before anybody asks the pin. With -ctx,
    # a half is sealed under the label ctx, so that it opens in its own deposit alone: what the module can do, the
    # ceremony found out.
    ALGORITHMS = frozenset({"oaep-sha256", "oaep-sha1", "oaep-sha256-ctx", "oaep-sha1-ctx"})

    @classmethod
    def from_payload(cls, payload: bytes) -> "EscrowKey":
        """Read the payload; raises Malformed. Whether oaep-sha1 is taken is the pin's rule (`policy`)."""
        return cls(*cls._read(payload))


@dataclass(frozen=True)
class OfflineKey(_TenantKey):
    """The X-Wing key whose private half exists only in paper shares."""

    PURPOSE = Purpose.OFFLINE_KEY
    KIND = KeyKind.X_WING
    ALGORITHMS = frozenset({"x-wing"})

    @classmethod
    def from_payload(cls, payload: bytes) -> "OfflineKey":
        """Read the payload; raises Malformed."""
        return cls(*cls._read(payload))


@dataclass(frozen=True)
class DepositStatement:
    """A device deposits one record. The record itself is read by `deposit`."""

    PURPOSE: ClassVar = Purpose.DEPOSIT

    header: Header
    record_hash: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes: field 7 is SHA-256 of the record. ESCROW "Deposit"."""
        return close_payload(self.header, {7: self.record_hash})

    @classmethod
    def from_payload(cls, payload: bytes) -> "DepositStatement":
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "deposit statement", (7,))
        require_device(header, "deposit statement")
        return cls(header, fields.octets(7, HASH_SIZE))


@dataclass(frozen=True)
class _BlobStatement:
    """What archive and export statements share: a blob's hash and its kind, by a device."""

    PURPOSE: ClassVar[Purpose]

    header: Header
    blob_hash: bytes
    kind: int

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `archive` and `export`."""
        return close_payload(self.header, {7: self.blob_hash, 8: self.kind})

    @classmethod
    def _read(cls, payload: bytes) -> tuple[Header, bytes, int]:
        what = f"{cls.PURPOSE.value} statement"
        header, fields = open_payload(payload, what, (7, 8))
        require_device(header, what)
        return header, fields.octets(7, HASH_SIZE), fields.uint(8, maximum=255)


@dataclass(frozen=True)
class ArchiveStatement(_BlobStatement):
    """A device vouches for an archive record."""

    PURPOSE = Purpose.ARCHIVE

    @classmethod
    def from_payload(cls, payload: bytes) -> "ArchiveStatement":
        """Read the payload; raises Malformed."""
        return cls(*cls._read(payload))


@dataclass(frozen=True)
class ExportStatement(_BlobStatement):
    """A device vouches for an export file."""

    PURPOSE = Purpose.EXPORT

    @classmethod
    def from_payload(cls, payload: bytes) -> "ExportStatement":
        """Read the payload; raises Malformed."""
        return cls(*cls._read(payload))
