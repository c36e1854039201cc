# SPDX-License-Identifier: Apache-2.0
"""Alice's laptop and bob's phone with their pre-keys, ready to begin sessions, for the tests of the session core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.core.crypto.keys import AgreementKey, KemKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages.bundle import (
    OneTimePart,
    PreKeyBundle,
    VerifiedBundle,
    build_batch,
    one_time_statement,
    verify_batch_upload,
    verify_bundle,
)
from holdfast.core.messages.prekeys import SignedPreKey
from holdfast.core.messages.session import Incoming, OwnPreKey, Party, Session, read_message
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.statements import ACME, DAY, NOW, hash_of, id_of

SPK_ID = 7
FIRST_ONE_TIME = 100
POOL = 3


@dataclass
class Device:
    """One device of one person, and every private key that it holds."""

    person: str
    suite: Suite
    tenant: bytes = ACME
    aik: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        self.user, self.id = id_of(self.person), id_of(f"{self.person}'s device")
        self.head = hash_of(f"{self.person}'s chain")
        self.signing = SigningKey.generate(self.suite.signing_kind)
        self.agreement = AgreementKey.generate(self.suite.agreement_kind)
        header = Header(self.tenant, self.user, self.id, NOW)
        keys = (self.signing.public, self.agreement.public, SealingKey.generate().public)
        self.statement = DeviceStatement(header, self.suite, *keys, self.user, "device", b"")
        self.signed_statement = cose.sign(self.statement.to_payload(), purpose=Purpose.DEVICE, key=self.signing)
        self.spk = OwnPreKey(
            SPK_ID,
            AgreementKey.generate(self.suite.agreement_kind),
            KemKey.generate() if self.suite.has_kem else None,
            b"",
        )
        kem = self.spk.kem.public if self.spk.kem else None
        signed = SignedPreKey(replace(header, expires_at=NOW + 7 * DAY), self.suite, SPK_ID, self.spk.dh.public, kem)
        self.signed_spk = cose.sign(signed.to_payload(), purpose=Purpose.PREKEY, key=self.signing)
        self.spk = replace(self.spk, statement=self.signed_spk.payload)
        self.batch = build_batch(
            header, suite=self.suite, first_key_id=FIRST_ONE_TIME, size=POOL, signing_key=self.signing
        )
        self.leaves = verify_batch_upload(self.batch.statement, self.batch.leaves, device=self.statement, now=NOW)

    @property
    def party(self) -> Party:
        return Party(self.signed_statement.payload, self.statement, self.aik.public, self.head)

    @property
    def chain(self) -> ChainState:
        return ChainState(
            tenant=self.tenant,
            user=self.user,
            aik=self.aik.public,
            recovery_key=None,
            hashes=(self.head,),
            devices={self.id: self.signed_statement.payload_hash},
        )

    def bundle(self, one_time: int | None = 0) -> VerifiedBundle:
        """What a peer has verified; with the one-time key of that index, or none."""
        part = None
        if one_time is not None:
            leaf = self.leaves.leaves[one_time]
            part = OneTimePart(self.batch.statement, leaf.leaf, one_time, leaf.proof)
        raw = PreKeyBundle(int(self.suite), self.head, self.signed_statement, self.signed_spk, part)
        return verify_bundle(raw, chain=self.chain, device=self.id, now=NOW)

    def one_time(self, key_id: int | None) -> OwnPreKey | None:
        """The private half of a one-time key, as the device's store rebuilds it; None when it has none of that id."""
        if key_id is None or not FIRST_ONE_TIME <= key_id < FIRST_ONE_TIME + POOL:
            return None
        private = self.batch.private[key_id - FIRST_ONE_TIME]
        return OwnPreKey(
            key_id,
            AgreementKey.from_seed(self.suite.agreement_kind, private.dh),
            KemKey.from_seed(private.kem) if private.kem else None,
            one_time_statement(self.batch.statement.payload, self.leaves.leaves[key_id - FIRST_ONE_TIME].leaf),
        )

    def initiate(self, to: Device, *, one_time: int | None = 0, **changes: Any) -> Session:
        given: dict[str, Any] = {
            "me": self.party,
            "device_statement": self.signed_statement,
            "agreement": self.agreement,
            "peer": to.party,
            "bundle": to.bundle(one_time),
            "now": NOW,
        }
        return Session.initiate(**(given | changes))

    def respond(self, message: bytes | Incoming, sender: Device, **changes: Any) -> tuple[Session, bytes]:
        incoming = read_message(message) if isinstance(message, bytes) else message
        assert incoming.initial is not None
        given: dict[str, Any] = {
            "me": self.party,
            "agreement": self.agreement,
            "initiator": sender.party,
            "signed": self.spk,
            "one_time": self.one_time(incoming.initial.one_time_pre_key_id),
            "now": NOW,
        }
        return Session.respond(incoming, **(given | changes))


def pair(suite: Suite = Suite.HYBRID, *, one_time: int | None = 0) -> tuple[Session, Session]:
    """Alice's and bob's ends of a session in which alice has written once and bob has answered."""
    alice, bob = Device("alice", suite), Device("bob", suite)
    hers = alice.initiate(bob, one_time=one_time)
    his, _ = bob.respond(hers.encrypt(b"hello"), alice)
    hers.decrypt(his.encrypt(b"hello yourself"), now=NOW)
    return hers, his
