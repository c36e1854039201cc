# SPDX-License-Identifier: Apache-2.0
"""The published vectors of statements, pre-keys, escrow, custody, archive, requests and the log of keys, replayed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from holdfast.core.base.errors import HoldfastError, Malformed, UnwrapFailed
from holdfast.core.crypto.keys import AgreementKey, KemKey, RecipientRsaKey, SealingKey, decode_public_key, verify
from holdfast.core.crypto.shares import combine as combine_shares
from holdfast.core.crypto.shares import split
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow.approvals import combine, take_off_outer
from holdfast.core.escrow.archive import SEGMENT_SIZE, TAG_SIZE, decrypt_segments, prefix_size, read_prefix
from holdfast.core.escrow.custody import read_manifest
from holdfast.core.escrow.deposit import Deposit, archive_key_commitment, share_commitment
from holdfast.core.identity.cases import Approval, Case
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.roles import Roles, WrongLeaf, check_leaf, verify_roles
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.key_log import require_same_log
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject
from holdfast.core.messages.bundle import OneTimePart, PreKeyBundle, VerifiedBundle, verify_batch_upload, verify_bundle
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.requests import SignatureParameters, content_digest, parse_signature
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.statements import PAYLOADS
from tests.core.test_published import octets, read, secret, why
from tests.published.statements import PURPOSES

STATEMENTS, PREKEYS, ESCROW = read("statements"), read("prekeys"), read("escrow")
ARCHIVE, REQUESTS, LOG, CUSTODY = read("archive"), read("requests"), read("log"), read("custody")


def _short(value: Any) -> str:
    """Name a row by what is wrong with it, and the suite or log that it is of."""
    if "suite" in value and "why" not in value:
        return by_suite(value)
    return why(value) if "why" in value else names(value)


def refused(call: Any, *arguments: Any, **named: Any) -> None:
    with pytest.raises(HoldfastError):
        call(*arguments, **named)


# Statements


def signer(row: Any) -> Any:
    return decode_public_key(octets(row["signer"]), expect=None)


@pytest.mark.parametrize("row", STATEMENTS["statements"], ids=lambda row: row["name"])
def test_statement_is_signed_as_published_and_read_by_the_class_of_its_purpose(row: Any) -> None:
    signed = Sign1.parse(octets(row["statement"]))
    payload = signed.verify(signer(row), purpose=Purpose(row["purpose"]))
    assert payload.hex() == row["payload"]
    assert signed.payload_hash.hex() == row["payload_hash"]
    assert row["external_aad"] == f"holdfast/v1/{row['purpose']}"
    assert type(PAYLOADS[row["name"]]).from_payload(payload).to_payload() == payload
    for other in set(Purpose) - {Purpose(row["purpose"])}:
        refused(signed.verify, signer(row), purpose=other)


@pytest.mark.parametrize("row", STATEMENTS["refused_payloads"], ids=why)
def test_payload_refuses_what_is_published_as_none(row: Any) -> None:
    refused(type(PAYLOADS[row["name"]]).from_payload, octets(row["octets"]))


@pytest.mark.parametrize("row", STATEMENTS["refused_statements"], ids=why)
def test_signed_statement_refuses_what_is_published_as_none(row: Any) -> None:
    (good,) = [one for one in STATEMENTS["statements"] if one["name"] == row["name"]]
    with pytest.raises(HoldfastError):
        Sign1.parse(octets(row["octets"])).verify(signer(good), purpose=PURPOSES[row["name"]])


# Pre-keys


def bundle_of(row: Any) -> PreKeyBundle:
    part = row.get("one_time_pre_key")
    return PreKeyBundle(
        row["suite"],
        octets(row["chain_head"]),
        Sign1.parse(octets(row["device_statement"])),
        Sign1.parse(octets(row["signed_pre_key"])),
        OneTimePart(Sign1.parse(octets(part["batch"])), octets(part["leaf"]), part["index"], octets(part["proof"]))
        if part
        else None,
    )


def owner_chain(suite: Any) -> ChainState:
    """What a verified chain says that lists the device; only what a bundle is held to."""
    listed = Sign1.parse(octets(suite["device_statement"])).payload_hash
    owner = {name: octets(value) for name, value in suite["owner"].items()}
    state = object.__new__(ChainState)
    state.__dict__.update(tenant=owner["tenant"], user=owner["user"], devices={owner["device"]: listed})
    return state


def opened(suite: Any, row: Any) -> VerifiedBundle:
    device = octets(suite["owner"]["device"])
    return verify_bundle(bundle_of(row), chain=owner_chain(suite), device=device, now=PREKEYS["now"])


def device_of(suite: Any) -> DeviceStatement:
    return DeviceStatement.open(Sign1.parse(octets(suite["device_statement"])))


def by_suite(row: Any) -> str:
    return Suite(row["suite"]).name


@pytest.mark.parametrize("suite", PREKEYS["suites"], ids=by_suite)
def test_batch_is_accepted_and_its_keys_are_those_of_the_seeds(suite: Any) -> None:
    said, kind = suite["batch"], Suite(suite["suite"]).agreement_kind
    statement = Sign1.parse(octets(said["statement"]))
    batch = verify_batch_upload(statement, octets(said["leaves"]), device=device_of(suite), now=PREKEYS["now"])
    assert batch.statement.root.hex() == said["root"]
    assert [one.key_id for one in batch.leaves] == [one["id"] for one in said["keys"]]
    for bundle, key in zip(suite["bundles"], said["keys"], strict=False):
        found = opened(suite, bundle).one_time
        assert found is not None
        assert found.dh == AgreementKey.from_seed(kind, secret(key["dh_seed"])).public
        assert (found.kem is None) == ("kem_seed" not in key)
        if found.kem is not None:
            assert found.kem == KemKey.from_seed(secret(key["kem_seed"])).public
    assert opened(suite, suite["bundles"][-1]).is_last_resort


@pytest.mark.parametrize(
    ("suite", "row"), [(suite, row) for suite in PREKEYS["suites"] for row in suite["refused_batches"]], ids=_short
)
def test_batch_refuses_what_is_published_as_none(suite: Any, row: Any) -> None:
    said = {**suite["batch"], **row}
    with pytest.raises(HoldfastError):
        verify_batch_upload(
            Sign1.parse(octets(said["statement"])),
            octets(said["leaves"]),
            device=device_of(suite),
            now=PREKEYS["now"],
        )


@pytest.mark.parametrize(
    ("suite", "row"), [(suite, row) for suite in PREKEYS["suites"] for row in suite["refused_bundles"]], ids=_short
)
def test_bundle_refuses_what_is_published_as_none(suite: Any, row: Any) -> None:
    with pytest.raises(HoldfastError):
        opened(suite, {**suite["bundles"][0], **row})


# Escrow


def deposit() -> Deposit:
    return Deposit.from_record(octets(ESCROW["record"]))


def sealing_key(row: Any) -> SealingKey:
    return SealingKey.from_seed(secret(row["sealing_seed"]))


def test_deposit_opens_by_each_of_its_keys_as_published() -> None:
    made, half = deposit(), secret(ESCROW["half"])
    assert made.to_record().hex() == ESCROW["record"]
    assert (made.header.ctx.hex(), made.half_hash.hex()) == (ESCROW["context"], ESCROW["half_hash"])
    hsm = RecipientRsaKey.from_pkcs8(secret(ESCROW["escrow_key"]["private"]))
    assert hsm.unwrap(made.sealed_half, hash_name="sha256") == half
    assert made.open_offline_half(key=SealingKey.from_seed(secret(ESCROW["offline_key_seed"]))) == half
    for officer in ESCROW["officers"]:
        share = made.open_share(officer["index"], key=sealing_key(officer))
        assert share == secret(officer["share"])
        assert share_commitment(made.header.ctx, officer["index"], share) == made.box(officer["index"]).commitment
    archive_key = made.open(half=half, officers_half=secret(ESCROW["officers_half"]))
    assert archive_key == secret(ESCROW["archive_key"])
    assert archive_key_commitment(made.header.generation, archive_key) == made.header.ak_commitment


def test_shares_are_the_polynomials_of_the_published_coefficients() -> None:
    drawn = iter(octets(one) for one in ESCROW["coefficients"])
    header = deposit().header
    made = split(secret(ESCROW["officers_half"]), m=header.m, n=header.n, random=lambda _: next(drawn))
    assert [made[one["index"]] for one in ESCROW["officers"]] == [secret(one["share"]) for one in ESCROW["officers"]]
    assert combine_shares(dict(list(made.items())[-header.m :])) == secret(ESCROW["officers_half"])


def released() -> dict[int, bytes]:
    """The shares as the release process hands them over: the outer sealing is off."""
    case = Sign1.parse(octets(ESCROW["case"]["statement"]))
    release = SealingKey.from_seed(secret(ESCROW["release_sealing_seed"]))
    found = {}
    for row in ESCROW["approvals"]:
        signed = Sign1.parse(octets(row["statement"]))
        said = Approval.from_payload(signed.verify(signer(row), purpose=Purpose.APPROVAL))
        assert said.case_hash == case.payload_hash
        ((deposit_id, index, sealed_hash),) = said.shares
        found[index] = take_off_outer(
            octets(row["outer"]),
            key=release,
            q=case.payload_hash,
            deposit_id=deposit_id,
            index=index,
            expected_hash=sealed_hash,
        )
    return found


def test_recipient_combines_what_the_published_approvals_and_the_hsm_gave() -> None:
    case = Sign1.parse(octets(ESCROW["case"]["statement"]))
    assert case.payload_hash.hex() == ESCROW["case"]["q"]
    ((_, record_hash),) = Case.from_payload(case.payload).deposits
    assert record_hash == hashlib.sha256(octets(ESCROW["record"])).digest()
    recipient = ESCROW["recipient"]
    given: dict[str, Any] = {
        "half": octets(recipient["rewrapped_half"]),
        "rsa_key": RecipientRsaKey.from_pkcs8(secret(recipient["rsa_private"])),
        "sealing_key": sealing_key(recipient),
        "algorithm": "oaep-sha256",
    }
    shares = released()
    opened_by = combine(case, deposit(), sealed_shares=shares, **given)
    assert opened_by.archive_key == secret(ESCROW["archive_key"])
    with pytest.raises(UnwrapFailed):
        combine(case, deposit(), sealed_shares=dict(list(shares.items())[:1]), **given)


@pytest.mark.parametrize("row", ESCROW["refused"], ids=why)
def test_record_refuses_what_is_published_as_none(row: Any) -> None:
    refused(Deposit.from_record, octets(row["octets"]))


@pytest.mark.parametrize("row", ESCROW["unopened"], ids=why)
def test_right_halves_do_not_open_a_record_that_was_changed(row: Any) -> None:
    made = Deposit.from_record(octets(row["octets"]))
    with pytest.raises(UnwrapFailed):
        made.open(half=secret(ESCROW["half"]), officers_half=secret(ESCROW["officers_half"]))


# Archive


def content_of(record: bytes) -> bytes:
    end = prefix_size(record[:6])
    step = SEGMENT_SIZE + TAG_SIZE
    pieces = [record[at : at + step] for at in range(end, len(record), step)]
    return b"".join(decrypt_segments(record[:end], pieces, archive_key=secret(ARCHIVE["archive_key"])))


@pytest.mark.parametrize("row", ARCHIVE["records"], ids=lambda row: row["name"])
def test_archive_record_opens_as_published(row: Any) -> None:
    record = octets(row["octets"])
    assert content_of(record) == bytes(row["zeros"]) + octets(row["content"])
    header, _ = read_prefix(record[: prefix_size(record[:6])])
    owner = ARCHIVE["owner"]
    assert (header.tenant.hex(), header.user.hex(), header.generation) == tuple(owner.values())


@pytest.mark.parametrize("row", ARCHIVE["refused"], ids=why)
def test_archive_record_refuses_what_is_published_as_none(row: Any) -> None:
    refused(content_of, octets(row["octets"]))


# Requests


@pytest.mark.parametrize("row", REQUESTS["requests"], ids=lambda row: f"{row['method']} {row['signer'][:2]}")
def test_request_is_signed_as_published(row: Any) -> None:
    parameters, signature = parse_signature(row["method"], row["Signature-Input"], row["Signature"])
    digest = row.get("Content-Digest", "")
    assert digest == ("" if row["method"] == "GET" else content_digest(octets(row["body"])))
    base = parameters.base(target_uri=row["target_uri"], digest=digest)
    assert base.decode() == row["base"]
    verify(signer(row), signature, base)
    again = SignatureParameters(row["method"], parameters.created, parameters.keyid, parameters.nonce)
    assert again.fields(signature) == {name: row[name] for name in ("Signature-Input", "Signature")}


@pytest.mark.parametrize("row", REQUESTS["refused"], ids=why)
def test_request_refuses_fields_that_are_published_as_none(row: Any) -> None:
    with pytest.raises(Malformed):
        parse_signature(row["method"], row["Signature-Input"], row["Signature"])


# The log of keys


def names(log: Any) -> str:
    return "P-256" if "/w" in log["verifier_key"].rpartition("+")[2][:2] else "Ed25519"


def heads_of(log: Any) -> list[Checkpoint]:
    verifier = NoteVerifier.from_text(log["verifier_key"])
    return [verifier.open_checkpoint(note) for note in log["checkpoints"]]


def hashes_of(log: Any) -> list[bytes]:
    return [merkle.leaf_hash(octets(row["leaf"])) for row in log["leaves"]]


@pytest.mark.parametrize("log", LOG["logs"], ids=names)
def test_leaves_and_every_proof_lead_to_the_published_heads(log: Any) -> None:
    heads, hashes = heads_of(log), hashes_of(log)
    for row in log["leaves"]:
        leaf = KeyLogEntry.from_leaf(octets(row["leaf"]))
        assert leaf.subject_hash == key_log_subject(octets(LOG["tenant"]), octets(LOG["user"]))
        assert (leaf.seq, leaf.statement_hash.hex()) == (row["seq"], row["statement_hash"])
    for row in log["inclusion"]:
        merkle.verify_inclusion(
            hashes[row["index"]],
            index=row["index"],
            size=row["size"],
            proof=[octets(one) for one in row["proof"]],
            expected_root=heads[row["size"] - 1].root,
        )
    for row in log["consistency"]:
        old, new = heads[row["old_size"] - 1], heads[row["size"] - 1]
        require_same_log(old, new, [octets(one) for one in row["proof"]])


@pytest.mark.parametrize(
    ("log", "row"), [(log, row) for log in LOG["logs"] for row in log["refused_checkpoints"]], ids=_short
)
def test_checkpoint_refuses_what_is_published_as_none(log: Any, row: Any) -> None:
    refused(NoteVerifier.from_text(log["verifier_key"]).open_checkpoint, row["note"])


@pytest.mark.parametrize(
    ("log", "row"), [(log, row) for log in LOG["logs"] for row in log["refused_inclusion"]], ids=_short
)
def test_inclusion_refuses_what_is_published_as_no_proof(log: Any, row: Any) -> None:
    refused(
        merkle.verify_inclusion,
        hashes_of(log)[row["leaf"]],
        index=row["index"],
        size=len(log["leaves"]),
        proof=[octets(one) for one in row["proof"]],
        expected_root=heads_of(log)[-1].root,
    )


AUDIT = LOG["audit"]


def audit_roles() -> Roles:
    tenant = octets(LOG["tenant"])
    root = decode_public_key(octets(AUDIT["root"]), expect=None)
    return verify_roles(Sign1.parse(octets(AUDIT["roles"])), tenant=tenant, root_key=root).roles


@pytest.mark.parametrize("row", AUDIT["leaves"], ids=lambda row: row["name"])
def test_entry_is_believed_as_published(row: Any) -> None:
    assert audit_roles().origin == AUDIT["origin"]
    leaf = octets(row["leaf"])
    assert check_leaf(leaf, index=row["index"], roles=audit_roles()).to_leaf() == leaf


@pytest.mark.parametrize("row", AUDIT["refused_leaves"], ids=why)
def test_entry_is_refused_for_what_is_published(row: Any) -> None:
    with pytest.raises(WrongLeaf) as caught:
        check_leaf(octets(row["leaf"]), index=row["index"], roles=audit_roles())
    assert caught.value.why == row["error"]


# Custody


def test_custody_manifest_is_read_as_published() -> None:
    found = read_manifest(CUSTODY["manifest"].encode().splitlines(keepends=True))
    assert (found.case.payload_hash.hex(), found.asked.subject.hex()) == (CUSTODY["q"], CUSTODY["subject"])
    assert (found.asked.disclosed_until, found.is_closed) == (CUSTODY["disclosure_ends"], True)
    opened = [(octets(file["octets"]), file["time"]) for file in CUSTODY["files"]]
    assert [(file.digest, file.size, file.time) for file in found.files] == [
        (hashlib.sha256(content).digest(), len(content), time) for content, time in opened
    ]
    receiver = DeviceStatement.from_payload(found.device.payload)
    assert receiver.signing_key.encoded.hex() == CUSTODY["device_signing_key"]
    assert b"".join(found.to_lines()).decode() == CUSTODY["manifest"]


@pytest.mark.parametrize("row", CUSTODY["refused"], ids=why)
def test_custody_manifest_refuses_what_is_published_as_none(row: Any) -> None:
    # By the end of line that the page has, and no other.
    lines = [line + b"\n" for line in octets(row["octets"]).split(b"\n")]
    lines[-1] = lines[-1][:-1]
    refused(read_manifest, [line for line in lines if line])
