# SPDX-License-Identifier: Apache-2.0
"""REST of the key directory: devices, chains, pre-keys, claims (PLATFORM "REST", PROTOCOL section 7)."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from holdfast.core.base.encoding import MAX_STATEMENT, b64u, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.chain import MAX_DEVICES
from holdfast.core.log.checkpoint import MAX_NOTE
from holdfast.core.log.key_log import InclusionProof
from holdfast.core.log.merkle import MAX_PROOF, MAX_SIZE
from holdfast.core.messages.bundle import MAX_LEAVES
from kernel import paging
from kernel.actors import Actor, system_actor
from kernel.api import ApiView, Reply
from kernel.errors import MalformedRequest
from kernel.fields import Base64UrlField, Empty, NumberField, StrictSerializer, UtcField, refuse_unknown, rfc3339
from kernel.lean import LeanView
from keys import access, chains, claims, health, services
from keys.errors import ChainFork, IfMatchMissing
from tenants import services as tenants
from tenants.api import EMAIL, email_key
from tenants.permissions import PermissionName
from tenants.sources import source_of

if TYPE_CHECKING:
    from keys.models import Device

MAX_ENTRIES = 32
# Entries that are given back in one upload, since the proof is of the last: ten years of one account.
MAX_GIVEN_BACK = 1_000
HASH_SIZE = 32
_HASH_TAG = re.compile(r'"((?:[A-Za-z0-9_-]{43})?)"')
HASH_IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description='The hash last read, base64url in quotation marks; `""` when there was none.',
)
CLAIM_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="A fresh key per claim; a retry repeats it.",
)


class EnrolDeviceIn(StrictSerializer):
    tenant_id = serializers.UUIDField(help_text="From the enrolment code.")
    code_secret = Base64UrlField(length=16, help_text="From the enrolment code; used up by this call.")
    device_statement = Base64UrlField(max_length=MAX_STATEMENT, help_text="Signed by the new device's own key.")


class EnrolDeviceOut(StrictSerializer):
    device_id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    state = serializers.CharField(help_text="`pending` until the user's account chain lists the device.")
    server_time = UtcField()


class SuccessorDeviceIn(StrictSerializer):
    device_statement = Base64UrlField(
        max_length=MAX_STATEMENT, help_text="Signed by the new device's own key; its enrolment hash is empty."
    )


class DeviceOut(StrictSerializer):
    device_id = serializers.UUIDField()
    user_id = serializers.UUIDField()
    name = serializers.CharField()
    suite = serializers.IntegerField()
    state = serializers.CharField(help_text="pending, active or revoked.")
    created_at = UtcField()
    device_statement = Base64UrlField()


class OwnDeviceOut(DeviceOut):
    successor_of = serializers.UUIDField(
        allow_null=True, help_text="The device of yours that registered it in its own place."
    )


class DevicesOut(StrictSerializer):
    devices = OwnDeviceOut(many=True)
    more = serializers.BooleanField()


class ListedDevice(StrictSerializer):
    device_id = serializers.UUIDField()
    device_statement = Base64UrlField()


class UserDevicesOut(StrictSerializer):
    chain_head = Base64UrlField(length=32)
    devices = ListedDevice(many=True)


class FoundUserOut(StrictSerializer):
    user_id = serializers.UUIDField()
    devices = ListedDevice(many=True)


class ChainIn(StrictSerializer):
    entries = serializers.ListField(
        child=Base64UrlField(max_length=2 * MAX_STATEMENT), min_length=1, max_length=MAX_ENTRIES, help_text="In order."
    )
    expected_head = Base64UrlField(
        length=32, allow_null=True, help_text="The head they were made on; null for a genesis."
    )


class LostProofIn(StrictSerializer):
    """As `chain/proof` gave it, before the backup was put back."""

    leaf_index = NumberField(min_value=0, max_value=MAX_SIZE)
    leaf = Base64UrlField(max_length=1024)
    proof = serializers.ListField(child=Base64UrlField(length=HASH_SIZE), max_length=MAX_PROOF)
    checkpoint = serializers.CharField(max_length=MAX_NOTE, trim_whitespace=False)


class GivenBackIn(StrictSerializer):
    entries = serializers.ListField(
        child=Base64UrlField(max_length=2 * MAX_STATEMENT),
        min_length=1,
        max_length=MAX_GIVEN_BACK,
        help_text="In order, without a gap; those that the chain has are passed over.",
    )
    proof = LostProofIn(
        required=False,
        help_text="That the last of them was in the key log that was lost. Without it, of one's own chain only.",
    )
    device_statements = serializers.ListField(
        child=Base64UrlField(max_length=MAX_STATEMENT),
        required=False,
        max_length=MAX_DEVICES,
        help_text="Of devices that these entries add, which come back if the server lost them.",
    )


class GivenBackOut(StrictSerializer):
    head = Base64UrlField(length=HASH_SIZE)
    seq = serializers.IntegerField()
    taken = serializers.IntegerField(help_text="How many entries the chain did not have.")
    devices = serializers.ListField(child=serializers.UUIDField(), help_text="Which came back with them.")


class ComeBackIn(StrictSerializer):
    tenant_id = serializers.UUIDField()
    device_statement = Base64UrlField(max_length=MAX_STATEMENT, help_text="As it enrolled with it.")
    entries = serializers.ListField(
        child=Base64UrlField(max_length=2 * MAX_STATEMENT), min_length=1, max_length=MAX_GIVEN_BACK
    )
    proof = LostProofIn(help_text="That the last of the entries was in the key log that was lost.")


class ChainHeadOut(StrictSerializer):
    head = Base64UrlField(length=32)
    seq = serializers.IntegerField()


class ChainOut(ChainHeadOut):
    """The head is the chain's, also where `entries` ends before it."""

    entries = serializers.ListField(child=Base64UrlField(), help_text="In order, as many as one answer has room for.")
    more = serializers.BooleanField(help_text="Whether entries follow: `after` takes the number of the last one.")


class ChainProofOut(StrictSerializer):
    leaf_index = serializers.IntegerField()
    leaf = Base64UrlField(help_text="The leaf of the key log, docs/formats/key-log.md.")
    proof = serializers.ListField(child=Base64UrlField(length=32), help_text="Inclusion, RFC 6962.")
    checkpoint = serializers.CharField(help_text="The newest signed head of the key log, a C2SP note.")
    consistency = serializers.ListField(
        child=Base64UrlField(length=32),
        required=False,
        help_text="From `old_size`, when that was given and the log is not smaller.",
    )


class BundleIn(StrictSerializer):
    v = NumberField(min_value=1, max_value=1)
    signed_pre_key = Base64UrlField(max_length=MAX_STATEMENT)


class PreKeysIn(StrictSerializer):
    v = NumberField(min_value=1, max_value=1)
    batch = Base64UrlField(max_length=MAX_STATEMENT, help_text="The signed batch statement.")
    leaves = Base64UrlField(max_length=MAX_LEAVES, help_text="dCBOR array of the batch's leaves.")


class PreKeysOut(StrictSerializer):
    stored = serializers.IntegerField(help_text="0 when the server had this batch already.")
    count = serializers.IntegerField(help_text="One-time pre-keys left.")


class ForecastOut(StrictSerializer):
    count = serializers.IntegerField()
    oldest_at = UtcField(allow_null=True)
    per_day = serializers.FloatField(help_text="Claims a day over the last week.")
    empty_at = UtcField(allow_null=True, help_text="When the pool runs out at that rate.")


class HeldBatchOut(StrictSerializer):
    batch_id = Base64UrlField(length=16)
    key_ids = serializers.ListField(child=serializers.IntegerField())


class CheckOut(StrictSerializer):
    digest = Base64UrlField(length=32)
    count = serializers.IntegerField()
    signed_pre_key_hash = Base64UrlField()
    epoch = serializers.IntegerField(help_text="How often the server voided all unissued keys, after a restore.")
    batches = HeldBatchOut(many=True)


class OneTimeOut(StrictSerializer):
    batch = Base64UrlField()
    leaf = Base64UrlField()
    index = serializers.IntegerField()
    proof = Base64UrlField()


class BundleOut(StrictSerializer):
    v = serializers.IntegerField()
    suite = serializers.IntegerField()
    chain_head = Base64UrlField(length=32)
    device_statement = Base64UrlField()
    signed_pre_key = Base64UrlField()
    one_time_pre_key = OneTimeOut(required=False)
    one_time = serializers.ChoiceField(choices=("handed-out", "exhausted"))


class DeviceBundleOut(BundleOut):
    device_id = serializers.UUIDField()


class UserBundlesOut(StrictSerializer):
    chain_head = Base64UrlField(length=32)
    bundles = DeviceBundleOut(many=True)


def _device_document(device: Device) -> dict[str, Any]:
    return {
        "device_id": str(device.id),
        "user_id": str(device.user_id),
        "name": device.name,
        "suite": device.suite,
        "state": device.state,
        "created_at": rfc3339(device.created_at),
        "device_statement": b64u(bytes(device.statement)),
    }


class DevicesView(ApiView):
    """Own devices are read with a signature; a new one enrols with its code, before it has any standing."""

    permission_names: ClassVar = {"GET": PermissionName.DEVICE_READ}

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if request.method == "POST":
            # Of this one request, since Django makes a view for each: whoever enrols has no credential but a code.
            self.tenancy = "enrolment"  # type: ignore[misc]

    @extend_schema(
        summary="List the caller's own devices, those not revoked first",
        operation_id="list_devices",
        parameters=[paging.AFTER],
        responses=DevicesOut,
    )
    def get(self, request: Request) -> Response:
        rows, more = access.own_devices(self.actor, after=paging.after(request))
        devices = [
            {**_device_document(device), "successor_of": device.successor_of and str(device.successor_of)}
            for device in rows
        ]
        return Response({"devices": devices, "more": more})

    @extend_schema(
        summary="Enrol a device with a single-use code",
        operation_id="enrol_device",
        request=EnrolDeviceIn,
        responses={201: EnrolDeviceOut},
    )
    def post(self, request: Request) -> Response:
        """The code and the statement's own signature are the proof; the request itself is not signed."""
        tenants.count_enrolment(source=source_of(request._request))
        given = self.valid(EnrolDeviceIn, request)
        prepared = services.prepare_device(tenant_id=given["tenant_id"], statement=given["device_statement"])
        tenants.begin_enrolment(tenant_id=given["tenant_id"])
        with self.writing(request) as reply:
            device = services.enrol_device(prepared=prepared, code_secret=SecretBytes(given["code_secret"]))
            reply.send(_enrolled(device))
        return reply.response


def _enrolled(device: Device) -> dict[str, str]:
    return {
        "device_id": str(device.id),
        "user_id": str(device.user_id),
        "state": device.state,
        "server_time": rfc3339(timezone.now()),
    }


class SuccessorView(ApiView):
    """Renewal of a device's own keys: a new device of the same user that follows this one."""

    permission_names: ClassVar = {"POST": PermissionName.DEVICE_WRITE}

    @extend_schema(
        summary="Register a successor of one's own device, without a code",
        operation_id="register_successor",
        request=SuccessorDeviceIn,
        parameters=[HASH_IF_MATCH],
        responses={201: EnrolDeviceOut},
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        """When the chain lists it and revokes this device, what waits in this mailbox moves to it.

        If-Match names the successor that waits already, by its statement's hash: this one takes its place.
        """
        access.own_device_for_reading(self.actor, device_id)
        given, waiting = self.valid(SuccessorDeviceIn, request), hash_if_match(request)
        assert self.actor.tenant_id is not None
        prepared = services.prepare_device(tenant_id=self.actor.tenant_id, statement=given["device_statement"])
        with self.writing(request) as reply:
            row = services.register_successor(
                device_id=device_id, prepared=prepared, expected=waiting, actor=self.actor
            )
            reply.send(_enrolled(row))
        return reply.response


class DeviceView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.DEVICE_READ}

    @extend_schema(summary="One device of the tenant", operation_id="read_device", responses=DeviceOut)
    def get(self, request: Request, device_id: UUID) -> Response:
        return Response(_device_document(access.device(device_id)))


class ChainView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.CHAIN_READ, "POST": PermissionName.CHAIN_WRITE}
    max_body = 512 * 1024

    @extend_schema(
        summary="Read a user's account chain",
        operation_id="read_chain",
        parameters=[OpenApiParameter("after", int, description="Entries above this number only.")],
        responses=ChainOut,
    )
    def get(self, request: Request, user_id: UUID) -> Response:
        head = access.chain_head(user_id)
        rows, more = access.chain_page(user_id, after=paging.number_after(request))
        entries = [b64u(bytes(row.entry)) for row in rows]
        return Response({"entries": entries, "head": b64u(bytes(head.head)), "seq": head.seq, "more": more})

    @extend_schema(
        summary="Append entries to one's own chain, all or none",
        operation_id="append_chain",
        request=ChainIn,
        responses={201: ChainHeadOut},
    )
    def post(self, request: Request, user_id: UUID) -> Response:
        """A stale head is answered with 409 `chain-stale` and the newer one."""
        given = self.valid(ChainIn, request)
        owner = access.own_user(self.actor, user_id)
        try:
            with self.writing(request) as reply:
                view = services.append_chain(
                    user_id=owner, entries=given["entries"], expected_head=given["expected_head"], actor=self.actor
                )
                reply.send({"head": b64u(view.head), "seq": view.seq})
        except ChainFork:
            services.record_fork(user_id=owner, entries=given["entries"], actor=self.actor)
            raise
        return reply.response


class GivenBackView(ApiView):
    permission_names: ClassVar = {"POST": PermissionName.CHAIN_WRITE}
    max_body = 2 * 1024 * 1024

    @extend_schema(
        summary="Give back entries of a user's chain that a restored database lost",
        operation_id="give_chain_back",
        request=GivenBackIn,
        responses=GivenBackOut,
    )
    def post(self, request: Request, user_id: UUID) -> Response:
        """By anybody about anybody, with the proof that the key log had them; one's own also without.

        For 90 days after the officers have accepted the restored log; 409 `nothing-restored` at any other time.
        """
        given = self.valid(GivenBackIn, request)
        try:
            with self.writing(request) as reply:
                done = services.give_back(
                    user_id=user_id,
                    entries=given["entries"],
                    proof=_lost_proof(given["proof"]) if "proof" in given else None,
                    statements=given.get("device_statements", ()),
                    actor=self.actor,
                )
                document = {"head": b64u(done.view.head), "seq": done.view.seq, "taken": done.taken}
                reply.send({**document, "devices": [str(one) for one in done.devices]}, status=200)
        except services.LostFork as error:
            services.record_fork(user_id=user_id, entries=[error.entry], actor=self.actor)
            raise
        return reply.response


def _lost_proof(given: dict[str, Any]) -> InclusionProof:
    return InclusionProof(given["leaf_index"], given["leaf"], given["proof"], given["checkpoint"])


class ComeBackView(ApiView):
    """As an enrolment: a device whose row is lost has no standing, so it proves itself by its chain."""

    max_body = 2 * 1024 * 1024

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if request.method == "POST":
            self.tenancy = "enrolment"  # type: ignore[misc]

    @extend_schema(
        summary="Bring back a device that a restored database lost",
        operation_id="bring_device_back",
        request=ComeBackIn,
        responses={201: EnrolDeviceOut},
    )
    def post(self, request: Request) -> Response:
        """Its account chain lists it, and the lost key log had the chain: that is the proof, and nothing is signed.

        Whatever does not hold is answered alike: 409 `nothing-restored`. Such a device enrols again. With a proof that
        holds, it also tells a server that does not know it yet that it was put back: 503 `log-restored` until accepted.
        """
        tenants.count_enrolment(source=source_of(request._request))
        given = self.valid(ComeBackIn, request)
        prepared = services.prepare_device(tenant_id=given["tenant_id"], statement=given["device_statement"])
        tenants.begin_enrolment(tenant_id=given["tenant_id"])
        header = prepared.device.header
        # Nobody has let it in yet: it is named in the log as whoever brought itself back.
        user_id = UUID(bytes=header.user)
        actor = Actor(given["tenant_id"], "device", UUID(bytes=header.device), person_id=user_id)
        entries, proof = given["entries"], _lost_proof(given["proof"])
        services.tell(user_id=user_id, entries=entries, proof=proof, actor=system_actor(given["tenant_id"], "web"))
        try:
            with self.writing(request) as reply:
                device = services.come_back(prepared=prepared, entries=entries, proof=proof, actor=actor)
                reply.send(_enrolled(device))
        except services.LostFork as error:
            services.record_fork(user_id=user_id, entries=[error.entry], actor=actor)
            raise
        return reply.response


class ChainProofView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.CHAIN_READ}

    @extend_schema(
        summary="Prove that an entry of a user's chain is in the key log",
        operation_id="prove_chain",
        parameters=[
            OpenApiParameter("seq", int, description="The entry's number; the newest unless said."),
            OpenApiParameter("old_size", int, description="A size of the log seen before: adds `consistency`."),
        ],
        responses=ChainProofOut,
    )
    def get(self, request: Request, user_id: UUID) -> Response:
        """404 `not-logged-yet` while no signed head covers the entry; one does within a minute."""
        seq, old_size = _optional_number(request, "seq"), _optional_number(request, "old_size", minimum=1)
        proof = chains.prove(user_id, seq, old_size=old_size)
        answer: dict[str, Any] = {
            "leaf_index": proof.leaf_index,
            "leaf": b64u(proof.leaf),
            "proof": [b64u(digest) for digest in proof.hashes],
            "checkpoint": proof.checkpoint,
        }
        if proof.consistency is not None:
            answer["consistency"] = [b64u(digest) for digest in proof.consistency]
        return Response(answer)


def _optional_number(request: Request, name: str, *, minimum: int = 0) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) >= minimum):
        raise MalformedRequest(f"{name}: must be a whole number of at least {minimum}.", field=name)
    return int(text)


class UsersView(ApiView):
    """The directory: one person by their whole e-mail address, in the caller's own tenant."""

    permission_names: ClassVar = {"GET": PermissionName.PERSON_FIND}

    @extend_schema(
        summary="Find an active person by their e-mail address",
        operation_id="find_user",
        parameters=[EMAIL],
        responses=FoundUserOut,
    )
    def get(self, request: Request) -> Response:
        """Everybody else is answered alike: unknown, invited, suspended, left, of another tenant."""
        key = email_key(request)
        tenants.count_search(self.actor)
        user_id, devices = access.find_by_address(key)
        return Response({"user_id": str(user_id), "devices": _listed(devices)})


class UserDevicesView(ApiView):
    permission_names: ClassVar = {"GET": PermissionName.DEVICE_READ}

    @extend_schema(
        summary="The devices a user's chain lists", operation_id="list_user_devices", responses=UserDevicesOut
    )
    def get(self, request: Request, user_id: UUID) -> Response:
        head = access.chain_head(user_id)
        return Response({"chain_head": b64u(bytes(head.head)), "devices": _listed(access.active_devices(user_id))})


def _listed(devices: list[Device]) -> list[dict[str, str]]:
    return [{"device_id": str(device.id), "device_statement": b64u(bytes(device.statement))} for device in devices]


class BundleView(ApiView):
    permission_names: ClassVar = {"PUT": PermissionName.PREKEY_WRITE}

    @extend_schema(
        summary="Publish the signed pre-key",
        operation_id="publish_signed_pre_key",
        request=BundleIn,
        parameters=[HASH_IF_MATCH],
        responses={204: None},
    )
    def put(self, request: Request, device_id: UUID) -> Response:
        """If-Match names the one that stands, as `check` does: `signed_pre_key_hash`."""
        given, current = self.valid(BundleIn, request), hash_if_match(request)
        with self.writing(request) as reply:
            device = access.own_device_for_update(self.actor, device_id)
            row = services.publish_signed_pre_key(
                device=device, statement=given["signed_pre_key"], expected=current, actor=self.actor
            )
            reply.headers = {"etag": f'"{b64u(bytes(row.statement_hash))}"'}
        return reply.response


def hash_if_match(request: Request) -> bytes:
    """Return the hash that If-Match names, 32 bytes or none. Raises IfMatchMissing, MalformedRequest."""
    tag = request.headers.get("if-match")
    if tag is None:
        raise IfMatchMissing('Send If-Match with the hash last read, "" when there was none.', field="if-match")
    match = _HASH_TAG.fullmatch(tag)
    try:
        if match:
            return unb64u(match[1], max_size=HASH_SIZE)
    except Malformed:
        pass  # bits below the last octet: the same hash has one text
    raise MalformedRequest("if-match: must be one quoted hash in base64url.", field="if-match")


class PreKeysView(LeanView):
    permission_names: ClassVar = {"GET": PermissionName.PREKEY_WRITE, "POST": PermissionName.PREKEY_WRITE}
    max_body = 256 * 1024

    @extend_schema(
        summary="Store a batch of one-time pre-keys",
        operation_id="store_pre_keys",
        request=PreKeysIn,
        responses={201: PreKeysOut, 200: PreKeysOut},
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        """One signature and one Merkle root are checked. The same batch again gets 200 and stores nothing."""
        given = self.valid(PreKeysIn, request)
        device = access.own_device_for_reading(self.actor, device_id)
        signed, batch = services.verify_batch(device=device, statement=given["batch"], leaves=given["leaves"])
        # Without a key to keep the answer under, the act is one statement and needs no transaction around it.
        with self.writing(request) if "idempotency-key" in request.headers else nullcontext(Reply()) as reply:
            done = services.store_batch(
                device_id=device_id, statement=given["batch"], signed=signed, batch=batch, actor=self.actor
            )
            reply.send({"stored": done.stored, "count": done.count}, status=201 if done.stored else 200)
        return reply.response

    @extend_schema(
        summary="How many one-time pre-keys are left, and for how long",
        operation_id="forecast_pre_keys",
        responses=ForecastOut,
    )
    def get(self, request: Request, device_id: UUID) -> Response:
        device = access.own_device_for_reading(self.actor, device_id)
        (standing,) = health.of_devices([device], now=timezone.now())
        return Response(
            {
                "count": standing.count,
                "oldest_at": rfc3339(standing.oldest_at) if standing.oldest_at else None,
                "per_day": round(standing.per_day, 2),
                "empty_at": rfc3339(standing.empty_at) if standing.empty_at else None,
            }
        )


class CheckView(ApiView):
    permission_names: ClassVar = {"POST": PermissionName.PREKEY_WRITE}

    @extend_schema(
        summary="Digest of what the server can still hand out",
        operation_id="check_pre_keys",
        request=Empty,
        responses=CheckOut,
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        """The device compares it with what it uploaded and saw used; a difference means lost or doubled keys."""
        self.valid(Empty, request)
        device = access.own_device_for_reading(self.actor, device_id)
        held = services.server_holds(device)
        return Response(
            {
                "digest": b64u(held.digest),
                "count": held.count,
                "signed_pre_key_hash": b64u(held.signed_pre_key_hash),
                "epoch": held.epoch,
                "batches": [{"batch_id": b64u(batch_id), "key_ids": key_ids} for batch_id, key_ids in held.batches],
            }
        )


class ClaimView(LeanView):
    """The hot path. The claim's own row answers a repeated key, so the general mechanism stands aside."""

    permission_names: ClassVar = {"POST": PermissionName.PREKEY_CLAIM}
    idempotency_required = True
    replays_by_itself = True
    spends_in_act: ClassVar = frozenset({"POST"})

    @extend_schema(
        summary="Claim a bundle of one device, with one one-time pre-key",
        operation_id="claim_device",
        request=Empty,
        parameters=[CLAIM_KEY],
        responses=BundleOut,
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        _require_empty(request.data)
        return _answer(claims.claim_device(device_id=device_id, key=self.idempotency_key(request), actor=self.actor))


class UserClaimView(LeanView):
    """The hot path for all devices of a user at once."""

    permission_names: ClassVar = {"POST": PermissionName.PREKEY_CLAIM}
    idempotency_required = True
    replays_by_itself = True
    spends_in_act: ClassVar = frozenset({"POST"})

    @extend_schema(
        summary="Claim a bundle of every device of a user",
        operation_id="claim_user",
        request=Empty,
        parameters=[CLAIM_KEY],
        responses=UserBundlesOut,
    )
    def post(self, request: Request, user_id: UUID) -> Response:
        _require_empty(request.data)
        return _answer(claims.claim_user(user_id=user_id, key=self.idempotency_key(request), actor=self.actor))


def _require_empty(body: object) -> None:
    # By hand: a serializer would cost the hot path more than all the rest of the parsing.
    if isinstance(body, dict):
        refuse_unknown(body, ())
    else:
        raise MalformedRequest("The body is the empty object: {}.")


def _answer(answer: claims.ClaimAnswer) -> Response:
    headers = {"idempotent-replay": "true"} if answer.replayed else None
    return Response(answer.document, headers=headers)
