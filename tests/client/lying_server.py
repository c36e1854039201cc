# SPDX-License-Identifier: Apache-2.0
"""A server in memory that tells the client what a test wants it to hear.

Implements as much of the REST API as the client uses, honestly, and then applies a test's lies to each answer.
Checks nothing itself: whatever the client survives here, it survives by its own checks.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa

from holdfast.core import approvals
from holdfast.core.cases import Approval, Case
from holdfast.core.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.deposit import Deposit
from holdfast.core.encoding import b64u, decode, unb64u
from holdfast.core.enrolment import EnrolmentCode
from holdfast.core.entries import AddDevice, Entry, ReGenesis
from holdfast.core.keys import PublicKey, RecipientRsaKey, SealingKey, SigningKey, wrap_rsa
from holdfast.core.payloads import Header
from holdfast.core.policy import ApproveWith, DepositRule, Officer, Policy, Terms
from holdfast.core.statements import DeviceStatement, EscrowKey
from holdfast.core.trust import root_pin

URL = "http://127.0.0.1:8123"
NOW = 1_790_000_000
TENANT = bytes(range(16))
PURPOSES = frozenset({"recovery"})

Lie = Callable[[dict[str, Any]], dict[str, Any]]


def text(identifier: bytes) -> str:
    return str(UUID(bytes=identifier))


@dataclass
class Founder:
    """An officer's keys, as the ceremony made them."""

    person: bytes
    signing: SigningKey = field(default_factory=SigningKey.generate)
    sealing: SealingKey = field(default_factory=SealingKey.generate)


@dataclass
class Tenant:
    """A tenant as founded: root, officers, policy version 1, escrow key version 1."""

    tenant: bytes = TENANT
    rule: DepositRule = DepositRule.FROM_CONSENT
    root: SigningKey = field(default_factory=SigningKey.generate)
    release_signing: SigningKey = field(default_factory=SigningKey.generate)
    release_sealing: SealingKey = field(default_factory=SealingKey.generate)
    escrow: RecipientRsaKey = field(default_factory=RecipientRsaKey.generate)
    officers: list[Founder] = field(default_factory=lambda: [Founder(secrets.token_bytes(16)) for _ in range(3)])
    policies: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policies.append(self.sign_policy(self.officers, version=1, predecessor=b"", signers=self.officers))
        self.keys.append(self.sign_key(self.escrow.public, version=1, predecessor=b""))

    @property
    def policy_hash(self) -> bytes:
        return _payload_hash(self.policies[-1])

    @property
    def pin(self) -> bytes:
        return root_pin(self.tenant, self.root.public, _payload_hash(self.policies[0]))

    def sign_policy(
        self, roster: list[Founder], *, version: int, predecessor: bytes, signers: list[Founder], m: int = 2
    ) -> bytes:
        rows = tuple(
            Officer(index, one.person, one.signing.public, one.sealing.public)
            for index, one in enumerate(roster, start=1)
        )
        terms = Terms(
            delay_seconds=0,
            max_notice_delay_seconds=0,
            cooling_off_seconds=0,
            undelivered_delay_seconds=0,
            approve_with=ApproveWith.CLI,
            purposes=PURPOSES,
            deposits=self.rule,
            release_signing_key=self.release_signing.public,
            release_sealing_key=self.release_sealing.public,
        )
        payload = Policy(self._header(), version, m, rows, terms, predecessor).to_payload()
        return encode_many([sign(payload, purpose=Purpose.POLICY, key=one.signing) for one in signers])

    def sign_key(
        self,
        key: PublicKey,
        *,
        version: int,
        predecessor: bytes,
        by_root: SigningKey | None = None,
        officers: list[Founder] | None = None,
        algorithm: str = "oaep-sha256",
    ) -> bytes:
        payload = EscrowKey(self._header(), key, version, algorithm, predecessor, self.policy_hash).to_payload()
        signers = [by_root or self.root, *(one.signing for one in (officers or self.officers[:2]))]
        return encode_many([sign(payload, purpose=Purpose.ESCROW_KEY, key=one) for one in signers])

    def _header(self) -> Header:
        return Header(self.tenant, b"", b"", NOW - 1000)


def _payload_hash(statement: bytes) -> bytes:
    value = decode(statement, max_size=1_000_000)
    assert isinstance(value, list)
    return Sign1.from_value(value[0]).payload_hash


class LyingServer:
    """Serves one tenant. `lies` maps a pattern of "METHOD path" to what is done to the honest answer."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.lies: dict[str, Lie] = {}
        self.log: list[tuple[str, str, dict[str, Any]]] = []
        self.devices: dict[str, bytes] = {}
        self.chains: dict[str, list[bytes]] = {}
        self.bundles: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.vaults: dict[str, dict[str, Any]] = {}
        self.doors: dict[str, dict[str, str]] = {}
        self.deposits: dict[str, dict[str, Any]] = {}
        self.cases: dict[str, dict[str, Any]] = {}

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._answer)

    def code(self, person: bytes, *, pin: bytes | None = None) -> EnrolmentCode:
        return EnrolmentCode.new(
            tenant=self.tenant.tenant, person=person, root_pin=self.tenant.pin if pin is None else pin
        )

    def posted(self, path: str) -> list[dict[str, Any]]:
        return [body for method, where, body in self.log if method in ("POST", "PUT") and re.fullmatch(path, where)]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        method, path = request.method, request.url.path.removeprefix("/api/v1/")
        body = json.loads(request.read() or b"{}")
        self.log.append((method, path, body))
        asker = request.headers.get("signature-input", "").partition('keyid="')[2][:36]
        for (verb, pattern), handler in _ROUTES.items():
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                status, answer = handler(self, asker, body, dict(request.url.params), *match.groups())
                break
        else:
            status, answer = 404, {"title": "Not found", "code": "not-found", "detail": "Not found."}
        for pattern, lie in self.lies.items():
            if status < 300 and re.fullmatch(pattern, f"{method} {path}"):
                answer = lie(json.loads(json.dumps(answer)))
        return httpx2.Response(status, json=answer)

    def _user(self, device: str) -> str:
        return text(DeviceStatement.from_payload(Sign1.parse(self.devices[device]).payload).header.user)

    def _listed(self, user: str) -> list[str]:
        """Return the devices that stand in a chain after its newest beginning, in the order they were added."""
        listed: list[str] = []
        for entry in map(Entry.parse, self.chains[user]):
            if isinstance(entry.body, ReGenesis):
                listed = []
            elif isinstance(entry.body, AddDevice):
                listed.append(text(entry.body.device))
        return listed

    # Devices and chains

    def enrol(self, _asker: str, body: Any, _query: Any) -> Any:
        statement = unb64u(body["device_statement"])
        read = DeviceStatement.from_payload(Sign1.parse(statement).payload)
        self.devices[text(read.header.device)] = statement
        return 201, {"device_id": text(read.header.device), "user_id": text(read.header.user), "state": "pending"}

    def own_devices(self, asker: str, _body: Any, _query: Any) -> Any:
        mine = [one for one in self.devices if self._user(one) == self._user(asker)]
        return 200, {"devices": [{"device_id": one, "state": "active"} for one in mine]}

    def one_device(self, _asker: str, _body: Any, _query: Any, device: str) -> Any:
        return 200, {"device_id": device, "device_statement": b64u(self.devices[device])}

    def chain(self, _asker: str, _body: Any, query: Any, user: str) -> Any:
        entries = self.chains.get(user, [])
        if not entries:
            return 404, {"title": "Not found", "code": "not-found", "detail": "Not found."}
        fresh = entries[int(query.get("after", -1)) + 1 :]
        head = Entry.parse(entries[-1]).hash
        return 200, {"entries": [b64u(one) for one in fresh], "head": b64u(head), "seq": len(entries) - 1}

    def extend(self, _asker: str, body: Any, _query: Any, user: str) -> Any:
        entries = self.chains.setdefault(user, [])
        head = b64u(Entry.parse(entries[-1]).hash) if entries else None
        if body["expected_head"] != head:
            return 409, {"title": "Stale", "code": "chain-stale", "detail": "Stale."}
        entries += [unb64u(one) for one in body["entries"]]
        return 201, {"head": b64u(Entry.parse(entries[-1]).hash), "seq": len(entries) - 1}

    # Pre-keys

    def put_bundle(self, _asker: str, body: Any, _query: Any, device: str) -> Any:
        self.bundles[device] = body
        return 204, {}

    def put_batch(self, _asker: str, body: Any, _query: Any, device: str) -> Any:
        from holdfast.core import merkle

        leaves = decode(unb64u(body["leaves"]), max_size=2**20)
        assert isinstance(leaves, list)
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves if isinstance(leaf, bytes)]
        for index, leaf in enumerate(leaves):
            assert isinstance(leaf, bytes)
            proof = b"".join(merkle.inclusion_proof(hashes, index))
            row = {"batch": body["batch"], "leaf": b64u(leaf), "index": index, "proof": b64u(proof)}
            self.batches.setdefault(device, []).append(row)
        return 201, {"stored": len(leaves), "count": len(self.batches[device])}

    def count(self, _asker: str, _body: Any, _query: Any, device: str) -> Any:
        return 200, {"count": len(self.batches.get(device, []))}

    def check(self, _asker: str, _body: Any, _query: Any, device: str) -> Any:
        return 200, {"count": len(self.batches.get(device, []))}

    def claim(self, _asker: str, _body: Any, _query: Any, user: str) -> Any:
        bundles = []
        for device in self._listed(user):
            if device not in self.bundles:
                continue
            statement = self.devices[device]
            row = {
                "device_id": device,
                "v": 1,
                "suite": DeviceStatement.from_payload(Sign1.parse(statement).payload).suite,
                "chain_head": b64u(Entry.parse(self.chains[user][-1]).hash),
                "device_statement": b64u(statement),
                "signed_pre_key": self.bundles[device]["signed_pre_key"],
                "one_time": "exhausted",
            }
            if self.batches.get(device):
                row |= {"one_time_pre_key": self.batches[device].pop(0), "one_time": "handed-out"}
            bundles.append(row)
        return 200, {"chain_head": b64u(Entry.parse(self.chains[user][-1]).hash), "bundles": bundles}

    # Vault

    def get_vault(self, asker: str, _body: Any, _query: Any) -> Any:
        kept = self.vaults.get(self._user(asker))
        return (200, kept) if kept else (404, {"title": "Not found", "code": "not-found", "detail": "Not found."})

    def put_vault(self, asker: str, body: Any, _query: Any) -> Any:
        version = self.vaults.get(self._user(asker), {}).get("version", 0) + 1
        self.vaults[self._user(asker)] = {**body, "version": version}
        return 204, {}

    def get_doors(self, asker: str, _body: Any, _query: Any) -> Any:
        doors = self.doors.get(self._user(asker), {})
        return 200, {"doors": [{"kind": kind, "version": 1} for kind in doors]}

    def one_door(self, asker: str, _body: Any, _query: Any, kind: str) -> Any:
        return 200, {"blob": self.doors[self._user(asker)][kind], "version": 1}

    def put_door(self, asker: str, body: Any, _query: Any, kind: str) -> Any:
        self.doors.setdefault(self._user(asker), {})[kind] = body["blob"]
        return 204, {}

    # Escrow

    def policy(self, _asker: str, _body: Any, _query: Any) -> Any:
        history = [{"hash": b64u(_payload_hash(one)), "statement": b64u(one)} for one in self.tenant.policies]
        return 200, {**history[-1], "history": history, "root_key": b64u(self.tenant.root.public.encoded)}

    def key(self, _asker: str, _body: Any, _query: Any) -> Any:
        history = [{"hash": b64u(_payload_hash(one)), "statement": b64u(one)} for one in self.tenant.keys]
        return 200, {**history[-1], "history": history}

    def statement(self, _asker: str, _body: Any, _query: Any) -> Any:
        return 201, {}

    def deposit(self, asker: str, body: Any, _query: Any) -> Any:
        record = unb64u(body["record"])
        head = Deposit.from_record(record).header
        row = {
            "deposit_id": text(head.deposit_id),
            "record_hash": b64u(hashlib.sha256(record).digest()),
            "generation": head.generation,
            "user": self._user(asker),
            **body,
        }
        self.deposits[text(head.deposit_id)] = row
        return 201, row

    def own_deposits(self, asker: str, _body: Any, _query: Any) -> Any:
        mine = [row for row in self.deposits.values() if row["user"] == self._user(asker)]
        return 200, {"deposits": mine}

    def one_deposit(self, _asker: str, _body: Any, _query: Any, deposit: str) -> Any:
        return 200, self.deposits[deposit]

    # Cases

    def open_case(self, _asker: str, body: Any, _query: Any) -> Any:
        case = Case.from_payload(Sign1.parse(unb64u(body["case"])).payload)
        self.cases[text(case.case_id)] = {"statement": body["case"], "approvals": [], "shares": [], "attestations": []}
        return 201, self._case(text(case.case_id))

    def _case(self, case_id: str) -> dict[str, Any]:
        row = self.cases[case_id]
        state = "released" if len(row["approvals"]) >= 2 else "requested"
        shown = {"case_id": case_id, "state": row.get("state", state), "statement": row["statement"], "needed": 2}
        shown["approvals"] = [{"decision": "approve", "statement": one} for one in row["approvals"]]
        if "successor" in row:
            shown["successor"] = row["successor"]
        return shown

    def one_case(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        return 200, self._case(case_id)

    def approve(self, _asker: str, body: Any, _query: Any, case_id: str) -> Any:
        self.cases[case_id]["approvals"].append(body["statement"])
        self.cases[case_id]["shares"].append(body["shares"])
        return 201, self._case(case_id)

    def successor(self, _asker: str, body: Any, _query: Any, case_id: str) -> Any:
        self.cases[case_id]["successor"] = body
        return 204, {}

    def attest(self, _asker: str, body: Any, _query: Any, case_id: str) -> Any:
        self.cases[case_id]["attestations"].append(body["statement"])
        return 201, {}

    def attestations(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        return 200, {"attestations": [{"statement": one} for one in self.cases[case_id]["attestations"]]}

    def release(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        row = self.cases[case_id]
        if len(row["approvals"]) < 2:
            return 409, {"title": "Not released", "code": "not-released", "detail": "Not released."}
        signed = Sign1.parse(unb64u(row["statement"]))
        case = Case.from_payload(signed.payload)
        records = [(text(one), self.deposits[text(one)]) for one, _ in case.deposits]
        halves = [
            [name, b64u(self._rewrap(Deposit.from_record(unb64u(kept["record"])).sealed_half, case.recipient_rsa_key))]
            for name, kept in records
        ]
        shares = []
        for statement, boxes in zip(row["approvals"], row["shares"], strict=True):
            said = Approval.from_payload(Sign1.parse(unb64u(statement)).payload)
            for (deposit_id, index, expected), (name, outer) in zip(said.shares, boxes, strict=True):
                inner = approvals.take_off_outer(
                    unb64u(outer),
                    key=self.tenant.release_sealing,
                    q=signed.payload_hash,
                    deposit_id=deposit_id,
                    index=index,
                    expected_hash=expected,
                )
                shares.append([name, index, b64u(inner)])
        rows = [[name, kept["record"], kept["statement"]] for name, kept in records]
        return 200, {"halves": halves, "shares": shares, "records": rows}

    def _rewrap(self, sealed: bytes, recipient: PublicKey) -> bytes:
        assert isinstance(recipient.parsed, rsa.RSAPublicKey)
        return wrap_rsa(recipient, self.tenant.escrow.unwrap(sealed, hash_name="sha256"), hash_name="sha256")


_ID = r"([0-9a-f-]{36})"
_ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("POST", "devices"): LyingServer.enrol,
    ("GET", "devices"): LyingServer.own_devices,
    ("GET", f"devices/{_ID}"): LyingServer.one_device,
    ("GET", f"users/{_ID}/chain"): LyingServer.chain,
    ("POST", f"users/{_ID}/chain"): LyingServer.extend,
    ("PUT", f"devices/{_ID}/bundle"): LyingServer.put_bundle,
    ("POST", f"devices/{_ID}/pre-keys"): LyingServer.put_batch,
    ("GET", f"devices/{_ID}/pre-keys"): LyingServer.count,
    ("POST", f"devices/{_ID}/check"): LyingServer.check,
    ("POST", f"users/{_ID}/claim"): LyingServer.claim,
    ("GET", "vault"): LyingServer.get_vault,
    ("PUT", "vault"): LyingServer.put_vault,
    ("GET", "vault/doors"): LyingServer.get_doors,
    ("GET", "vault/doors/([a-z]+)"): LyingServer.one_door,
    ("PUT", "vault/doors/([a-z]+)"): LyingServer.put_door,
    ("GET", "escrow/policy"): LyingServer.policy,
    ("GET", "escrow/key"): LyingServer.key,
    ("POST", "statements"): LyingServer.statement,
    ("POST", "enrolment-codes"): LyingServer.statement,
    ("POST", "escrow/deposits"): LyingServer.deposit,
    ("GET", "escrow/deposits"): LyingServer.own_deposits,
    ("GET", f"escrow/deposits/{_ID}"): LyingServer.one_deposit,
    ("POST", "cases"): LyingServer.open_case,
    ("GET", f"cases/{_ID}"): LyingServer.one_case,
    ("POST", f"cases/{_ID}/approvals"): LyingServer.approve,
    ("PUT", f"cases/{_ID}/successor"): LyingServer.successor,
    ("POST", f"cases/{_ID}/attestations"): LyingServer.attest,
    ("GET", f"cases/{_ID}/attestations"): LyingServer.attestations,
    ("GET", f"cases/{_ID}/release"): LyingServer.release,
}
