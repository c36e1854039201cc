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
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from holdfast.core.base.encoding import Encodable, b64u, decode, label, unb64u
from holdfast.core.crypto.keys import PublicKey, RecipientRsaKey, SealingKey, SigningKey, wrap_rsa
from holdfast.core.escrow import approvals
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.escrow.receipt import Receipt
from holdfast.core.identity.acts import Act, Resolution
from holdfast.core.identity.cases import Approval, Case
from holdfast.core.identity.entries import AddDevice, Entry, ReGenesis, RevokeDevice
from holdfast.core.identity.policy import DepositRule, Policy
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.identity.trust import root_pin
from holdfast.core.log.writers import Role
from holdfast.core.messages.prekeys import BatchStatement, OneTimePreKey
from holdfast.core.signed.cose import Purpose, Sign1, encode_many, sign
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from holdfast.core.signed.requests import WINDOW_SECONDS
from holdfast.core.signed.statements import DeviceStatement, EscrowKey
from tests.cast import lying_acts, lying_contacts, lying_mailbox, lying_organisation, lying_restored, lying_sections
from tests.cast.lying_acts import OfficersActs
from tests.cast.lying_contacts import ContactRecovery
from tests.cast.lying_log import KeysLog
from tests.cast.lying_mailbox import Mailboxes, refused
from tests.cast.lying_organisation import Administration
from tests.cast.lying_restored import Restorable
from tests.cast.lying_sections import OfficersSections
from tests.cast.officers import Founder, make_terms, roster_of

URL = "http://127.0.0.1:8123"
NOW = 1_790_000_000
TENANT = bytes(range(16))
PURPOSES = frozenset({"recovery"})

Lie = Callable[[dict[str, Any]], dict[str, Any]]
Instead = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def text(identifier: bytes) -> str:
    return str(UUID(bytes=identifier))


@dataclass
class Tenant:
    """A tenant as founded: root, officers, policy version 1, escrow key version 1."""

    tenant: bytes = TENANT
    rule: DepositRule = DepositRule.FROM_CONSENT
    cooling_off: int = 0
    terms: dict[str, Any] = field(default_factory=dict)
    root: SigningKey = field(default_factory=SigningKey.generate)
    release_signing: SigningKey = field(default_factory=SigningKey.generate)
    release_sealing: SealingKey = field(default_factory=SealingKey.generate)
    escrow: RecipientRsaKey = field(default_factory=RecipientRsaKey.generate)
    log: SigningKey = field(default_factory=SigningKey.generate)
    officers: list[Founder] = field(default_factory=lambda: [Founder() for _ in range(3)])
    policies: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    roles: list[bytes] = field(default_factory=list)
    withdrawals: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policies.append(self.sign_policy(self.officers, version=1, predecessor=b"", signers=self.officers))
        self.keys.append(self.sign_key(self.escrow.public, version=1, predecessor=b""))
        self.roles.append(self.sign_roles(RoleKey(Role.LOG, self.log.public)))

    @property
    def policy_hash(self) -> bytes:
        return _payload_hash(self.policies[-1])

    @property
    def pin(self) -> bytes:
        return root_pin(self.tenant, self.root.public, _payload_hash(self.policies[0]))

    def sign_policy(
        self,
        roster: list[Founder],
        *,
        version: int,
        predecessor: bytes,
        signers: list[Founder],
        m: int = 2,
        held: bytes | None = None,
    ) -> bytes:
        """Sign a version that names its predecessor as the one in force, unless told otherwise."""
        terms = make_terms(
            self.release_signing.public,
            self.release_sealing.public,
            purposes=PURPOSES,
            deposits=self.rule,
            cooling_off_seconds=self.cooling_off,
            **self.terms,
        )
        held = predecessor if held is None else held
        policy = Policy(self._header(), version, m, roster_of(roster), terms, predecessor, held_in_force=held)
        payload = policy.to_payload()
        return encode_many([sign(payload, purpose=Purpose.POLICY, key=one.signing_key) for one in signers])

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
        signers = [by_root or self.root, *(one.signing_key for one in (officers or self.officers[:2]))]
        return encode_many([sign(payload, purpose=Purpose.ESCROW_KEY, key=one) for one in signers])

    def sign_withdrawal(self, version: int, signers: list[Founder]) -> bytes:
        """Withdraw a version by officers of the first."""
        about = (version, _payload_hash(self.policies[version - 1]))
        first = _payload_hash(self.policies[0])
        payload = Resolution(self._header(), Act.WITHDRAW_VERSION, about, first, secrets.token_bytes(16)).to_payload()
        return encode_many([sign(payload, purpose=Purpose.RESOLUTION, key=one.signing_key) for one in signers])

    def sign_roles(self, *keys: RoleKey, by_root: SigningKey | None = None) -> bytes:
        """Return the next version of the root's word on whose keys sign the log."""
        before = Sign1.parse(self.roles[-1]).payload_hash if self.roles else b""
        roles = Roles(self._header(), len(self.roles) + 1, keys, before)
        return sign(roles.to_payload(), purpose=Purpose.ROLES, key=by_root or self.root).encode()

    def _header(self) -> Header:
        return Header(self.tenant, b"", b"", NOW - 1000)


def _payload_hash(statement: bytes) -> bytes:
    value = decode(statement, max_size=1_000_000)
    assert isinstance(value, list)
    return Sign1.from_value(value[0]).payload_hash


@pytest.fixture(scope="session")
def founded() -> Tenant:
    """RSA keys take a second to make: one tenant serves all tests, and nobody changes it."""
    return Tenant()


def again(founded: Tenant) -> Tenant:
    """Return the same tenant with lists of its own, for a server that changes them."""
    copy = Tenant.__new__(Tenant)
    lists = {name: [*getattr(founded, name)] for name in ("policies", "keys", "roles")}
    copy.__dict__.update(founded.__dict__ | lists)
    return copy


class LyingServer(Mailboxes, ContactRecovery, OfficersActs, OfficersSections, Administration, Restorable):
    """Serves one tenant. `lies` maps a pattern of "METHOD path" to what is done to the honest answer.

    `instead` maps one to what answers in place of the honest handler, from the request's body. `lost` holds the
    patterns whose answer never arrives, though the act was done. `judges_dates`: requests and what they bring are held
    to the server's clock, as the real one does.
    """

    def __init__(self, tenant: Tenant) -> None:
        Mailboxes.__init__(self)
        ContactRecovery.__init__(self, NOW)
        OfficersActs.__init__(self, tenant.tenant, tenant.log, NOW)
        OfficersSections.__init__(self)
        Administration.__init__(self)
        Restorable.__init__(self)
        self.tenant = tenant
        self.lies: dict[str, Lie] = {}
        self.instead: dict[str, Instead] = {}
        self.lost: set[str] = set()
        self._keys: set[tuple[str, str]] = set()
        self.log: list[tuple[str, str, dict[str, Any]]] = []
        self.devices: dict[str, bytes] = {}
        self.chains: dict[str, list[bytes]] = {}
        self.addresses: dict[str, bytes] = {}  # e-mail address → person, as the directory has them
        self.bundles: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.epoch = 0
        self.page = 256  # entries or versions in one answer
        self.vaults: dict[str, dict[str, Any]] = {}
        self.doors: dict[str, dict[str, str]] = {}
        self.stored_doors: dict[str, dict[str, int]] = {}  # since when each is there
        self.deposits: dict[str, dict[str, Any]] = {}
        self.consents: dict[str, list[str]] = {}
        self.cases: dict[str, dict[str, Any]] = {}
        self.if_match = ""
        self.in_force_from = "2020-01-01T00:00:00Z"
        self.keys_log = KeysLog(tenant.tenant, NOW, tenant.log, clock=lambda: self.clock() or NOW)
        self.judges_dates = False
        self._answered: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._answer)

    def code(self, person: bytes, *, pin: bytes | None = None) -> EnrolmentCode:
        return EnrolmentCode.new(
            tenant=self.tenant.tenant,
            person=person,
            root_pin=self.tenant.pin if pin is None else pin,
            log_vkey=self.keys_log.verifier("audit").to_text(),
        )

    def posted(self, path: str) -> list[dict[str, Any]]:
        return [body for method, where, body in self.log if method in ("POST", "PUT") and re.fullmatch(path, where)]

    def keys_of(self, path: str) -> set[str]:
        """Return the idempotency keys that came with requests to a path; "" for one that had none."""
        return {key for where, key in self._keys if where == path}

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        method, path = request.method, request.url.path.removeprefix("/api/v1/")
        body = json.loads(request.read() or b"{}")
        self.log.append((method, path, body))
        asker = request.headers.get("signature-input", "").partition('keyid="')[2][:36]
        self.if_match = request.headers.get("if-match", "").strip('"')
        act = (asker, path, request.headers.get("idempotency-key", ""))
        self._keys.add(act[1:])
        if self.judges_dates and (refusal := self._refuse_date(request, path, body)):
            return httpx2.Response(refusal[0], json=refusal[1])
        if act in self._answered:
            status, answer = self._answered[act]
        else:
            status, answer = self._handle(method, path, asker, body, dict(request.url.params))
            if act[2] and status < 300:
                self._answered[act] = status, answer
        for pattern, lie in list(self.lies.items()):
            if status < 300 and re.fullmatch(pattern, f"{method} {path}"):
                answer = lie(json.loads(json.dumps(answer)))
        if any(re.fullmatch(pattern, f"{method} {path}") for pattern in self.lost):
            raise httpx2.ReadTimeout("lost")
        if isinstance(answer, dict) and "octets" in answer:  # a tile
            return httpx2.Response(status, content=unb64u(answer["octets"]))
        return httpx2.Response(status, json=answer)

    def _refuse_date(self, request: httpx2.Request, path: str, body: Any) -> tuple[int, dict[str, Any]] | None:
        now, signed = self.clock(), re.search(r";created=(\d+)", request.headers.get("signature-input", ""))
        if signed and abs(int(signed[1]) - now) > WINDOW_SECONDS:
            return refused(401, "unauthenticated", server_time=utc(now))
        if path.endswith("/chain") and "entries" in body:
            dates = [Entry.parse(unb64u(one)).header.issued_at for one in body["entries"]]
            chain = self.chains.get(path.split("/")[1], [])
            latest = max(now + MAX_AHEAD_SECONDS, Entry.parse(chain[-1]).header.issued_at if chain else 0)
            if not all(now - 3 * 3600 <= date <= latest for date in dates):
                return refused(422, "chain-refused")
        for name in ("device_statement", "signed_pre_key", "batch"):
            if name in body:
                payload = decode(Sign1.parse(unb64u(body[name])).payload)
                assert isinstance(payload, dict)
                issued_at = payload[5]
                assert isinstance(issued_at, int)
                if issued_at > now + MAX_AHEAD_SECONDS:
                    return refused(422, "expired")
        return None

    def _handle(self, method: str, path: str, asker: str, body: Any, query: Any) -> tuple[int, dict[str, Any]]:
        for pattern, instead in self.instead.items():
            if re.fullmatch(pattern, f"{method} {path}"):
                return instead(body)
        if self.is_read_only and method != "GET" and path not in lying_restored.STILL_TAKEN:
            return refused(503, "log-restored")
        for (verb, pattern), handler in _ROUTES.items():
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                answered: tuple[int, dict[str, Any]] = handler(self, asker, body, query, *match.groups())
                return answered
        return refused(404, "not-found")

    def _user(self, device: str) -> str:
        return text(DeviceStatement.from_payload(Sign1.parse(self.devices[device]).payload).header.user)

    def _listed(self, user: str) -> list[str]:
        """Return the devices that stand in a chain after its newest beginning, in the order they were added."""
        listed: list[str] = []
        for entry in map(Entry.parse, self.chains.get(user, [])):
            if isinstance(entry.body, ReGenesis):
                listed = []
            elif isinstance(entry.body, AddDevice):
                listed.append(text(entry.body.device))
            elif isinstance(entry.body, RevokeDevice):
                listed.remove(text(entry.body.device))
        return listed

    # Devices and chains

    def enrol(self, _asker: str, body: Any, _query: Any) -> Any:
        statement = unb64u(body["device_statement"])
        read = DeviceStatement.from_payload(Sign1.parse(statement).payload)
        self.devices[text(read.header.device)] = statement
        return 201, {"device_id": text(read.header.device), "user_id": text(read.header.user), "state": "pending"}

    def own_devices(self, asker: str, _body: Any, _query: Any) -> Any:
        mine = [one for one in self.devices if self._user(one) == self._user(asker)]
        active = self._listed(self._user(asker))
        rows = [{"device_id": one, "state": "active" if one in active else "pending"} for one in mine]
        return 200, {"devices": rows, "more": False}

    def add_successor(self, asker: str, body: Any, query: Any, old: str) -> Any:
        status, answer = self.enrol(asker, body, query)
        self.successors[old] = answer["device_id"]
        return status, answer

    def one_device(self, _asker: str, _body: Any, _query: Any, device: str) -> Any:
        if device not in self.devices:
            return refused(404, "not-found")
        return 200, {"device_id": device, "device_statement": b64u(self.devices[device])}

    def chain(self, _asker: str, _body: Any, query: Any, user: str) -> Any:
        entries = self.chains.get(user, [])
        if not entries:
            return 404, {"title": "Not found", "code": "not-found", "detail": "Not found."}
        start = int(query.get("after", -1)) + 1
        end = start + self.page
        head = Entry.parse(entries[-1]).hash
        return 200, {
            "entries": [b64u(one) for one in entries[start:end]],
            "head": b64u(head),
            "seq": len(entries) - 1,
            "more": end < len(entries),
        }

    def extend(self, _asker: str, body: Any, _query: Any, user: str) -> Any:
        entries = self.chains.setdefault(user, [])
        head = b64u(Entry.parse(entries[-1]).hash) if entries else None
        if body["expected_head"] != head:
            return 409, {"title": "Stale", "code": "chain-stale", "detail": "Stale."}
        fresh = [unb64u(one) for one in body["entries"]]
        entries += fresh
        for entry in map(Entry.parse, fresh):
            self.keys_log.append(UUID(user).bytes, entry)
        self.move_to_successors(user)
        return 201, {"head": b64u(Entry.parse(entries[-1]).hash), "seq": len(entries) - 1}

    def chain_proof(self, _asker: str, _body: Any, query: Any, user: str) -> Any:
        old_size = int(query["old_size"]) if "old_size" in query else None
        answer = self.keys_log.proof(UUID(user).bytes, int(query["seq"]), old_size)
        return (200, answer) if answer else refused(404, "not-logged-yet")

    # Pre-keys

    def put_bundle(self, _asker: str, body: Any, _query: Any, device: str) -> Any:
        self.bundles[device] = body
        return 204, {}

    def put_batch(self, _asker: str, body: Any, _query: Any, device: str) -> Any:
        from holdfast.core.log import merkle

        if any(row["batch"] == body["batch"] for row in self.batches.get(device, [])):
            return 200, {"stored": 0, "count": len(self.batches[device])}
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
        held: dict[bytes, list[int]] = {}
        for row in self.batches.get(device, []):
            batch = BatchStatement.from_payload(Sign1.parse(unb64u(row["batch"])).payload)
            key = OneTimePreKey.from_leaf(unb64u(row["leaf"]), batch.suite)
            held.setdefault(batch.batch_id, []).append(key.key_id)
        signed = b""
        if device in self.bundles:
            signed = Sign1.parse(unb64u(self.bundles[device]["signed_pre_key"])).payload_hash
        rows: list[Encodable] = [[batch_id, list[Encodable](ids)] for batch_id, ids in sorted(held.items())]
        return 200, {
            "digest": b64u(hashlib.sha256(label("server-holds", UUID(device).bytes, signed, rows)).digest()),
            "count": sum(map(len, held.values())),
            "signed_pre_key_hash": b64u(signed),
            "epoch": self.epoch,
            "batches": [{"batch_id": b64u(batch_id), "key_ids": ids} for batch_id, ids in sorted(held.items())],
        }

    def claim(self, _asker: str, _body: Any, _query: Any, user: str) -> Any:
        rows = [{"device_id": one, **self._bundle(one)} for one in self._listed(user) if one in self.bundles]
        return 200, {"chain_head": b64u(Entry.parse(self.chains[user][-1]).hash), "bundles": rows}

    def claim_one(self, _asker: str, _body: Any, _query: Any, device: str) -> Any:
        if device not in self.bundles or device not in self._listed(self._user(device)):
            return refused(404, "not-found")
        return 200, self._bundle(device)

    def _bundle(self, device: str) -> dict[str, Any]:
        statement = self.devices[device]
        row = {
            "v": 1,
            "suite": DeviceStatement.from_payload(Sign1.parse(statement).payload).suite,
            "chain_head": b64u(Entry.parse(self.chains[self._user(device)][-1]).hash),
            "device_statement": b64u(statement),
            "signed_pre_key": self.bundles[device]["signed_pre_key"],
            "one_time": "exhausted",
        }
        if self.batches.get(device):
            row |= {"one_time_pre_key": self.batches[device].pop(0), "one_time": "handed-out"}
        return row

    # Vault

    def get_vault(self, asker: str, _body: Any, _query: Any) -> Any:
        kept = self.vaults.get(self._user(asker))
        return (200, kept) if kept else (404, {"title": "Not found", "code": "not-found", "detail": "Not found."})

    def put_vault(self, asker: str, body: Any, _query: Any) -> Any:
        version = self.vaults.get(self._user(asker), {}).get("version", 0) + 1
        if self.if_match != str(version - 1):
            return refused(409, "vault-stale")
        self.vaults[self._user(asker)] = {**body, "version": version}
        return 204, {}

    def get_doors(self, asker: str, _body: Any, _query: Any) -> Any:
        doors = self.doors.get(self._user(asker), {})
        since = self.stored_doors.get(self._user(asker), {})
        return 200, {"doors": [{"kind": kind, "version": 1, "stored_at": utc(since.get(kind, 0))} for kind in doors]}

    def one_door(self, asker: str, _body: Any, _query: Any, kind: str) -> Any:
        if kind not in self.doors.get(self._user(asker), {}):
            return refused(404, "not-found")
        if asker not in self._listed(self._user(asker)):
            self.notice(self._user(asker), {"event": "door-read", "kind": kind, "device_id": asker})
        return 200, {"blob": self.doors[self._user(asker)][kind], "version": 1}

    def put_door(self, asker: str, body: Any, _query: Any, kind: str) -> Any:
        self.doors.setdefault(self._user(asker), {})[kind] = body["blob"]
        self.stored_doors.setdefault(self._user(asker), {})[kind] = self.clock()
        return 204, {}

    def delete_door(self, asker: str, _body: Any, _query: Any, kind: str) -> Any:
        self.doors.get(self._user(asker), {}).pop(kind, None)
        return 204, {}

    # Escrow

    def policy(self, _asker: str, _body: Any, query: Any) -> Any:
        history = self._history(self.tenant.policies, query)
        withdrawals = [b64u(statement) for statement in self.tenant.withdrawals]
        shown = {"root_key": b64u(self.tenant.root.public.encoded), "in_force_from": self.in_force_from}
        return 200, {**history, **shown, "withdrawals": withdrawals}

    def key(self, _asker: str, _body: Any, query: Any) -> Any:
        return 200, self._history(self.tenant.keys, query)

    def roles(self, _asker: str, _body: Any, _query: Any) -> Any:
        if not self.tenant.roles:
            return refused(404, "not-found")
        return 200, {"version": len(self.tenant.roles), "statement": b64u(self.tenant.roles[-1])}

    def _history(self, statements: list[bytes], query: Any) -> dict[str, Any]:
        rows = [{"hash": b64u(_payload_hash(one)), "statement": b64u(one)} for one in statements]
        start = int(query.get("after", 0))
        return {**rows[-1], "history": rows[start : start + self.page], "more": start + self.page < len(rows)}

    def find_user(self, _asker: str, _body: Any, query: Any) -> Any:
        user = self.addresses.get(query["email"])
        return (200, {"user_id": text(user), "devices": []}) if user else refused(404, "not-found")

    def find_enrollee(self, _asker: str, _body: Any, query: Any) -> Any:
        user = self.addresses.get(query["email"])
        return (200, {"person_id": text(user)}) if user else refused(404, "not-found")

    def issue_code(self, _asker: str, body: Any, _query: Any) -> Any:
        return 201, {"id": str(uuid.uuid4()), "person_id": body["person_id"], "awaits_second": False}

    def confirm_code(self, _asker: str, body: Any, _query: Any, code_id: str) -> Any:
        return 201, {"id": code_id, "person_id": body["person_id"], "awaits_second": False}

    def statement(self, asker: str, body: Any, _query: Any) -> Any:
        self.consents.setdefault(self._user(asker), []).append(body["statement"])
        return 201, {}

    def own_statements(self, asker: str, _body: Any, _query: Any) -> Any:
        rows = [
            {"hash": b64u(Sign1.parse(unb64u(one)).payload_hash), "purpose": "consent", "statement": one}
            for one in self.consents.get(self._user(asker), [])
        ]
        return 200, {"statements": rows, "more": False}

    def deposit(self, asker: str, body: Any, _query: Any) -> Any:
        record = unb64u(body["record"])
        head = Deposit.from_record(record).header
        row = {
            "deposit_id": text(head.deposit_id),
            "record_hash": b64u(hashlib.sha256(record).digest()),
            "generation": head.generation,
            "user": self._user(asker),
            "receipt": b64u(self._receipt(record).encode()),
            "refused": False,
            **body,
        }
        self.deposits[text(head.deposit_id)] = row
        return 201, row

    def _receipt(self, record: bytes) -> Sign1:
        deposit = Deposit.from_record(record)
        receipt = Receipt(
            header=Header(self.tenant.tenant, b"", b"", NOW),
            deposit_id=deposit.header.deposit_id,
            record_hash=hashlib.sha256(record).digest(),
            half_hash=deposit.half_hash,
            index=len(self.deposits),
        )
        return sign(receipt.to_payload(), purpose=Purpose.RECEIPT, key=self.tenant.release_signing)

    def own_deposits(self, asker: str, _body: Any, _query: Any) -> Any:
        mine = [row for row in reversed(self.deposits.values()) if row["user"] == self._user(asker)]
        mine.sort(key=lambda row: -row["generation"])
        return 200, {"deposits": mine, "more": False}

    def coverage(self, _asker: str, _body: Any, _query: Any) -> Any:
        rows = [{**row, "user_id": row["user"]} for row in self.deposits.values()]
        return 200, {"deposits": rows, "more": False}

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
        shown |= {name: row[name] for name in ("successor", "collected_at") if name in row}
        return shown

    def own_cases(self, asker: str, _body: Any, _query: Any) -> Any:
        rows = []
        for case_id, row in self.cases.items():
            case = Case.from_payload(Sign1.parse(unb64u(row["statement"])).payload)
            rows.append({**self._case(case_id), "subject": text(case.subject), "purpose": str(case.purpose)})
        return 200, {"cases": [row for row in rows if row["subject"] == self._user(asker)], "more": False}

    def one_case(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        return 200, self._case(case_id)

    def approve(self, _asker: str, body: Any, _query: Any, case_id: str) -> Any:
        if self.cases[case_id].get("state") == "awaiting-share":
            self.cases[case_id]["state"] = "released"
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

    def cancel(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        if self._case(case_id)["state"] != "requested":
            return refused(409, "case-moved")
        self.cases[case_id]["state"] = "cancelled"
        return 201, self._case(case_id)

    def blame(self, _asker: str, body: Any, _query: Any, case_id: str) -> Any:
        row = self.cases[case_id]
        if any(len(row["approvals"]) - len(indices) >= 2 for _, indices in body["shares"]):
            return refused(422, "blame-refused")
        row["state"], row["blamed"] = "awaiting-share", body["shares"]
        return 201, self._case(case_id)

    def release(self, _asker: str, _body: Any, _query: Any, case_id: str) -> Any:
        row = self.cases[case_id]
        if len(row["approvals"]) < 2 or row.get("state", "released") != "released":
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
                if not any(name == one and index in indices for one, indices in row.get("blamed", ())):
                    shares.append([name, index, b64u(inner)])
        rows = [[name, kept["record"], kept["statement"]] for name, kept in records]
        return 200, {"halves": halves, "shares": shares, "records": rows}

    def _rewrap(self, sealed: bytes, recipient: PublicKey) -> bytes:
        assert isinstance(recipient.parsed, rsa.RSAPublicKey)
        return wrap_rsa(recipient, self.tenant.escrow.unwrap(sealed, hash_name="sha256"), hash_name="sha256")


def utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    ("GET", "cases"): LyingServer.own_cases,
    ("POST", f"users/{_ID}/claim"): LyingServer.claim,
    ("POST", f"devices/{_ID}/claim"): LyingServer.claim_one,
    ("POST", f"devices/{_ID}/successor"): LyingServer.add_successor,
    ("GET", f"users/{_ID}/chain/proof"): LyingServer.chain_proof,
    ("GET", "vault"): LyingServer.get_vault,
    ("PUT", "vault"): LyingServer.put_vault,
    ("GET", "vault/doors"): LyingServer.get_doors,
    ("GET", "vault/doors/([a-z]+)"): LyingServer.one_door,
    ("PUT", "vault/doors/([a-z]+)"): LyingServer.put_door,
    ("DELETE", "vault/doors/([a-z]+)"): LyingServer.delete_door,
    ("GET", "escrow/policy"): LyingServer.policy,
    ("GET", "escrow/key"): LyingServer.key,
    ("GET", "audit/roles"): LyingServer.roles,
    ("POST", "statements"): LyingServer.statement,
    ("GET", "statements"): LyingServer.own_statements,
    ("GET", "users"): LyingServer.find_user,
    ("GET", "enrolment-codes/person"): LyingServer.find_enrollee,
    ("POST", "enrolment-codes"): LyingServer.issue_code,
    ("POST", f"enrolment-codes/{_ID}/confirm"): LyingServer.confirm_code,
    ("POST", "escrow/deposits"): LyingServer.deposit,
    ("GET", "escrow/deposits"): LyingServer.own_deposits,
    ("GET", "escrow/coverage"): LyingServer.coverage,
    ("GET", f"escrow/deposits/{_ID}"): LyingServer.one_deposit,
    ("POST", "cases"): LyingServer.open_case,
    ("GET", f"cases/{_ID}"): LyingServer.one_case,
    ("POST", f"cases/{_ID}/approvals"): LyingServer.approve,
    ("POST", f"cases/{_ID}/cancel"): LyingServer.cancel,
    ("POST", f"cases/{_ID}/blame"): LyingServer.blame,
    ("PUT", f"cases/{_ID}/successor"): LyingServer.successor,
    ("POST", f"cases/{_ID}/attestations"): LyingServer.attest,
    ("GET", f"cases/{_ID}/attestations"): LyingServer.attestations,
    ("GET", f"cases/{_ID}/release"): LyingServer.release,
    **lying_acts.ROUTES,
    **lying_sections.ROUTES,
    **lying_organisation.ROUTES,
    **lying_mailbox.ROUTES,
    **lying_contacts.ROUTES,
    **lying_restored.ROUTES,
}
