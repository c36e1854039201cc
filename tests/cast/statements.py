# SPDX-License-Identifier: Apache-2.0
"""One tenant's people, keys and statements, as pure values, for the tests of the foundations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from holdfast.core.crypto.keys import AgreementKey, KemKey, KeyKind, PublicKey, RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow.custody import CustodyLine, OpenedFile
from holdfast.core.identity import chain_author
from holdfast.core.identity.acts import Act, OfficerState, Resolution, Standing
from holdfast.core.identity.cases import Approval, Attestation, Case, ClientKind, Veto
from holdfast.core.identity.chain import ChainState, verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.identity.policy import (
    ApproveWith,
    DepositRule,
    GivenUp,
    Officer,
    Policy,
    SignedPolicy,
    Terms,
    verify_founding,
)
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.log.writers import Role
from holdfast.core.messages.prekeys import BatchStatement, SignedPreKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import (
    ArchiveStatement,
    Consent,
    DepositStatement,
    DeviceStatement,
    EscrowKey,
    ExportStatement,
    OfflineKey,
    Sync,
    SyncKind,
)
from holdfast.core.vault.door_proof import DoorProof
from holdfast.core.vault.share_manifest import Manifest, ShareRequest

NOW: Final = 1_800_000_000
DAY: Final = 86400


def id_of(name: str) -> bytes:
    """The 16-byte id of one of the cast."""
    return hashlib.sha256(name.encode()).digest()[:16]


def hash_of(name: str) -> bytes:
    """A 32-byte hash of something that the test at hand does not need to exist."""
    return hashlib.sha256(name.encode()).digest()


ACME, ALICE, LAPTOP, PHONE = (id_of(name) for name in ("acme", "alice", "alice's laptop", "alice's phone"))
MALLORY_TENANT, MALLORY = id_of("mallory's tenant"), id_of("mallory")
CAROL, DAN, ERIN, RITA = (id_of(name) for name in ("carol", "dan", "erin", "rita"))

TENANT: Final = Header(ACME, b"", b"", NOW)
USER: Final = Header(ACME, ALICE, b"", NOW)
DEVICE: Final = Header(ACME, ALICE, LAPTOP, NOW)

ROOT: Final = SigningKey.generate(KeyKind.P256_SIGNING)
AIK: Final = SigningKey.generate()
ISK: Final = SigningKey.generate()
RSA: Final = RecipientRsaKey.generate()
SEALING: Final = SealingKey.generate()
OFFICER_KEYS: Final = (SigningKey.generate(), SigningKey.generate(KeyKind.P256_SIGNING), SigningKey.generate())
OFFICERS: Final = tuple(
    Officer(i, person, key.public, SealingKey.generate().public)
    for i, (person, key) in enumerate(zip((CAROL, DAN, ERIN), OFFICER_KEYS, strict=True), 1)
)
TERMS: Final = Terms(
    delay_seconds=3 * DAY,
    max_notice_delay_seconds=30 * DAY,
    cooling_off_seconds=DAY,
    undelivered_delay_seconds=14 * DAY,
    approve_with=ApproveWith.CLI,
    purposes=frozenset({"device-loss", "legal", "leaver"}),
    deposits=DepositRule.FROM_CONSENT,
    release_signing_key=SigningKey.generate().public,
    release_sealing_key=SealingKey.generate().public,
)
POLICY: Final = Policy(TENANT, version=1, m=2, roster=OFFICERS, terms=TERMS, predecessor=b"")


def signed_by(keys: Sequence[SigningKey], payload: bytes, purpose: Purpose) -> tuple[Sign1, ...]:
    """One payload, signed by each key."""
    return tuple(cose.sign(payload, purpose=purpose, key=key) for key in keys)


FOUNDING: Final = signed_by(OFFICER_KEYS, POLICY.to_payload(), Purpose.POLICY)
SIGNED_POLICY: Final = verify_founding(FOUNDING, tenant=ACME)


def next_policy(before: SignedPolicy = SIGNED_POLICY, **changes: Any) -> Policy:
    """The version after `before`, naming it."""
    fields: dict[str, Any] = {
        "version": before.policy.version + 1,
        "predecessor": before.hash,
        "held_in_force": before.hash,
        "given_up": None,
    }
    return replace(before.policy, **(fields | changes))


def policy_history(versions: int) -> list[tuple[Sign1, ...]]:
    """A founding policy and those after it, each signed by two officers, as a server hands a history out."""
    before, history = SIGNED_POLICY, [FOUNDING]
    for number in range(1, versions):
        made = next_policy(before, terms=replace(TERMS, delay_seconds=3 * DAY + number))
        history.append(signed_by(OFFICER_KEYS[:2], made.to_payload(), Purpose.POLICY))
        before = SignedPolicy(made, history[-1][0].payload_hash)
    return history


def escrow_key(version: int = 1, **changes: Any) -> EscrowKey:
    """An escrow-key statement's payload."""
    made = EscrowKey(TENANT, RSA.public, version, "oaep-sha256", b"", SIGNED_POLICY.hash)
    return replace(made, **changes)


def device_statement(
    key: SigningKey = ISK, *, header: Header = DEVICE, suite: Suite = Suite.HYBRID, **changes: Any
) -> DeviceStatement:
    """A device's statement, under `key`."""
    agreement = AgreementKey.generate(suite.agreement_kind).public
    made = DeviceStatement(header, suite, key.public, agreement, SEALING.public, ALICE, "laptop", hash_of("code"))
    return replace(made, **changes)


def signed_device(device: DeviceStatement, key: SigningKey = ISK) -> Sign1:
    """The statement, signed."""
    return cose.sign(device.to_payload(), purpose=Purpose.DEVICE, key=key)


def signed_pre_key(suite: Suite = Suite.HYBRID, **changes: Any) -> SignedPreKey:
    """A signed pre-key of the laptop's."""
    header = replace(DEVICE, expires_at=NOW + 7 * DAY)
    kem = KemKey.generate().public if suite.has_kem else None
    return replace(SignedPreKey(header, suite, 7, AgreementKey.generate(suite.agreement_kind).public, kem), **changes)


def case(**changes: Any) -> Case:
    """Alice's new device asks for two deposits."""
    made = Case(
        header=replace(DEVICE, device=PHONE),
        case_id=id_of("case"),
        nonce=id_of("nonce"),
        subject=ALICE,
        requester=ALICE,
        purpose="device-loss",
        deposits=((id_of("deposit 1"), hash_of("record 1")), (id_of("deposit 2"), hash_of("record 2"))),
        reason="lost both devices",
        reference="TICKET-7",
        recipient_device_hash=hash_of("phone"),
        recipient_rsa_key=RSA.public,
        recipient_sealing_key=SEALING.public,
        policy_hash=SIGNED_POLICY.hash,
        not_before=NOW + 60,
        notice_at=NOW,
        expiry=NOW + 14 * DAY,
    )
    return replace(made, **changes)


def approval(**changes: Any) -> Approval:
    """Carol agrees to the first deposit."""
    made = Approval(
        header=Header(ACME, CAROL, b"", NOW),
        case_hash=hash_of("q"),
        shares=((id_of("deposit 1"), 1, hash_of("sealed 1")),),
        policy_hash=SIGNED_POLICY.hash,
        approves=True,
        identity_check="called their desk",
        client_kind=ClientKind.CLI,
    )
    return replace(made, **changes)


def resolution(act: Act = Act.WITHDRAW_VERSION, *about: int | bytes, **changes: Any) -> Resolution:
    """What officers of the founding policy decide together: unless told otherwise, to withdraw version 2."""
    made = Resolution(TENANT, act, about or (2, hash_of("version 2")), SIGNED_POLICY.hash, id_of("act"))
    return replace(made, **changes)


def attest(key: SigningKey, state: ChainState, aik: PublicKey, device_hash: bytes, **changes: Any) -> Sign1:
    """One officer's attestation of a new key for the account of `state`."""
    said = replace(Attestation(Header(ACME, ALICE, b"", NOW), state.head, aik, id_of("case"), device_hash), **changes)
    return cose.sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=key)


def begin(recovery_key: PublicKey | None = None) -> tuple[list[Entry], ChainState]:
    """Alice's chain with the laptop in it."""
    by = Author(LAPTOP, NOW, AIK)
    entries = [chain_author.genesis(tenant=ACME, user=ALICE, by=by, recovery_key=recovery_key)]
    state = verify_chain(entries, tenant=ACME, user=ALICE)
    entries.append(chain_author.add_device(state, by=by, device=LAPTOP, statement_hash=hash_of("laptop")))
    return entries, verify_chain(entries, tenant=ACME, user=ALICE)


BATCH: Final = BatchStatement(DEVICE, Suite.HYBRID, id_of("batch"), 100, hash_of("root"))
MANIFEST: Final = Manifest(
    USER, id_of("set"), 2, NOW, tuple((one, hash_of("share")) for one in (CAROL, DAN, ERIN)), hash_of("door")
)
SHARE_REQUEST: Final = ShareRequest(
    replace(DEVICE, device=PHONE, expires_at=NOW + 3 * DAY), SEALING.public, hash_of("phone"), MANIFEST.hash
)
ROLE_KEYS: Final = {
    role: SigningKey.generate(KeyKind.P256_SIGNING if role is Role.CEREMONY else KeyKind.ED25519) for role in Role
}
OLD_WEB_KEY: Final = SigningKey.generate()  # ended when the log had 100 entries
ROLES: Final = Roles(
    TENANT,
    1,
    (*(RoleKey(role, key.public) for role, key in ROLE_KEYS.items()), RoleKey(Role.WEB, OLD_WEB_KEY.public, 100)),
)
PAYLOADS: Final[dict[str, Any]] = {
    "device": device_statement(),
    "device on P-256": device_statement(SigningKey.generate(KeyKind.P256_SIGNING), suite=Suite.HYBRID_P256),
    "signed pre-key": signed_pre_key(),
    "classical signed pre-key": signed_pre_key(Suite.CLASSICAL),
    "batch": BATCH,
    "sync": Sync(USER, SyncKind.VAULT, hash_of("vault"), 3),
    "sync of the officers' section": Sync(USER, SyncKind.OFFICERS, hash_of("section"), 2),
    "door proof": DoorProof(USER, "officers-password", hash_of("door")),
    "officer": OfficerStatement(Header(ACME, CAROL, b"", NOW), CAROL, OFFICERS[0].signing_key, OFFICERS[0].sealing_key),
    "second officer": OfficerStatement(
        Header(ACME, DAN, b"", NOW), DAN, OFFICERS[1].signing_key, OFFICERS[1].sealing_key, hash_of("first")
    ),
    "consent": Consent(USER, SIGNED_POLICY.hash, hash_of("text"), agreed=True),
    "escrow key": escrow_key(),
    "second escrow key": escrow_key(2, predecessor=hash_of("first"), algorithm="oaep-sha1"),
    "offline key": OfflineKey(TENANT, SEALING.public, 1, "x-wing", b"", SIGNED_POLICY.hash),
    "policy": POLICY,
    "second policy": next_policy(given_up=GivenUp(2, hash_of("deposits"))),
    "policy with a word to members": next_policy(
        terms=replace(TERMS, consent_binds_seconds=30 * DAY, text="Ask Carol, at 4711.")
    ),
    "deposit": DepositStatement(DEVICE, hash_of("record")),
    "archive": ArchiveStatement(DEVICE, hash_of("blob"), 1),
    "export": ExportStatement(DEVICE, hash_of("blob"), 1),
    "case": case(disclosure_ends=0),
    "case of before": case(),
    "disclosure": case(subject=CAROL, purpose="leaver", disclosure_ends=NOW + 30 * DAY),
    "approval": approval(),
    "denial": approval(approves=False, shares=()),
    "first custody line": CustodyLine(DEVICE, hash_of("q"), 1, b"", (OpenedFile(hash_of("file"), NOW, 4096),)),
    "closing custody line": CustodyLine(DEVICE, hash_of("q"), 2, hash_of("first")),
    "veto": Veto(DEVICE, hash_of("q"), "I have my phone"),
    "officer away": OfficerState(TENANT, CAROL, Standing.AWAY, ""),
    "officer suspended": OfficerState(TENANT, DAN, Standing.SUSPENDED, "their laptop was stolen"),
    "withdrawal of a version": resolution(),
    "return of an officer": resolution(Act.RETURN_OFFICER, DAN),
    "acknowledgement of a leaf": resolution(Act.ACKNOWLEDGE_LEAF, 7, hash_of("leaf")),
    "acceptance of a log": resolution(Act.ACCEPT_LOG, 1000, hash_of("root")),
    "acceptance of a restored log": resolution(Act.ACCEPT_LOG, 1000, hash_of("root"), 70, hash_of("key root")),
    "suspension of a device": resolution(Act.SUSPEND_DEVICE, DAN, id_of("phone")),
    "share manifest": MANIFEST,
    "share request": SHARE_REQUEST,
    "roles": ROLES,
    "second roles": replace(ROLES, version=2, predecessor=hash_of("first")),
    "attestation": Attestation(USER, hash_of("head"), AIK.public, id_of("case"), hash_of("phone")),
}
