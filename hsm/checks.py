# SPDX-License-Identifier: Apache-2.0
"""What must be true of a key on a token before anything trusts it.

Implements FAULTS H2, H8, H9, H15 and H16: one key for each pinned id and label, attributes on the
allow-list, check values and public keys as pinned. Runs at every start, and before a ceremony commits.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11 import exceptions as ck

from hsm import signing
from hsm.attributes import REQUIRED, TENANT_KEY_CAPABILITIES, TENANT_KEY_USE, Template
from hsm.backend import KCV_BYTES
from hsm.errors import HsmKeyMismatch, HsmKeyMissing
from hsm.manifest import KeyRecord, TokenRecord, key_label
from hsm.pkcs11 import AMBIGUOUS, REFUSED, Meaning, meaning

# Not the zero block of CKA_CHECK_VALUE: that one is GCM's hash key, of which 3 bytes would be published.
_KCV_BLOCK = b"holdfast/v1/kcv\x00"

# No checkpoint and no statement is these bytes: the signature is worth nothing anywhere else.
_SELF_TEST = b"holdfast/v1/hsm-self-test"

_TENANT_KEY_UNWRAPPED: Final[Mapping[str, Any]] = {
    "mechanism": Mechanism.AES_KEY_WRAP,
    "capabilities": TENANT_KEY_CAPABILITIES,
}

# What a key answers that was written half, or is of another kind.
_UNUSABLE = (ck.MechanismInvalid, ck.KeyTypeInconsistent, ck.KeySizeRange, ck.AttributeTypeInvalid)


def key_check_value(key: Any) -> bytes:
    """Return the first 3 bytes of AES-ECB of a fixed block, computed in the HSM."""
    return bytes(key.encrypt(_KCV_BLOCK, mechanism=Mechanism.AES_ECB)[:KCV_BYTES])


def binding_canary(key: Any) -> bytes:
    """Return 32 bytes HMAC-SHA256 of a fixed text, by which a binding key is known again."""
    return bytes(key.sign(_SELF_TEST, mechanism=Mechanism.SHA256_HMAC))


def object_class(record: KeyRecord) -> ObjectClass:
    return ObjectClass.SECRET_KEY if record.kind in {"master", "binding"} else ObjectClass.PRIVATE_KEY


def find_key(session: Any, record: KeyRecord) -> Any:
    """Return the one key with the pinned id, and the one with the pinned label: they are the same.

    Raises HsmKeyMissing when there is none, HsmKeyMismatch when there are two: never choose, never create.
    """
    kind = object_class(record)
    # `list` reads a search to its end: an unfinished one stays active and blocks the session (HSM section 8, quirk 6).
    by_id = list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: bytes.fromhex(record.id)}))
    by_label = list(session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: record.label}))
    return _the_one(by_id, by_label, record)


def _the_one(by_id: list[Any], by_label: list[Any], record: KeyRecord) -> Any:
    name = f"{record.label} (id {record.id})"
    # The label is on the token: a manifest edited to give a tenant another's key does not fit it.
    if record.tenant and record.label != key_label(record.kind, record.tenant, record.version):
        raise HsmKeyMismatch(f"the key {name} is not the tenant's {record.tenant}, as the manifest has it")
    if not by_id:
        raise HsmKeyMissing(f"the key {name} is not on the token; it is never created in its place")
    if len(by_id) > 1 or len(by_label) > 1:
        raise HsmKeyMismatch(f"the token has two keys that claim to be {name}")
    # Id and label both, on one object: somebody could have made a key of that label beside, for whoever searches by it.
    if not by_label or by_label[0].handle != by_id[0].handle:
        raise HsmKeyMismatch(f"id and label of {name} are not those of one key")
    return by_id[0]


def check_token(session: Any, record: TokenRecord, *, token: str) -> None:
    """Check every pinned key. Keys that nothing pins (orphans of a killed ceremony) are left alone.

    Raises HsmKeyMissing or HsmKeyMismatch unless each is there, as it must be, and the one pinned; and
    PKCS11Error for what may pass, so that the start is tried again.
    """
    # One pass: a search costs SoftHSM time in the number of its keys, and so would be squared.
    by_id, by_label = defaultdict(list), defaultdict(list)
    for kind in {object_class(key) for key in record.keys}:
        for found in list(session.get_objects({Attribute.CLASS: kind})):
            by_id[kind, found[Attribute.ID].hex()].append(found)
            by_label[kind, found[Attribute.LABEL]].append(found)
    for key in record.keys:
        kind = object_class(key)
        try:
            _check_key(_the_one(by_id[kind, key.id], by_label[kind, key.label], key), key)
        except _UNUSABLE as error:
            raise HsmKeyMismatch(f"{key.label} on the token {token} does not work: {error!r}") from error


def _check_key(key: Any, record: KeyRecord) -> None:
    _check_attributes(key, record)
    if record.kind == "master":
        _check_master(key, record)
    elif record.kind == "binding":
        if binding_canary(key).hex() != record.canary:
            raise HsmKeyMismatch(f"{record.label} does not make its canary: another key of that id")
    elif record.kind == "escrow":
        # Using it would be an unwrap that no release accounts for.
        _check_modulus(key, record)
    else:
        signature = signing.sign(key, record.algorithm, _SELF_TEST)
        if not signing.verifies(bytes.fromhex(record.public), signature, _SELF_TEST):
            raise HsmKeyMismatch(f"{record.label} does not sign as its pinned public key says")


def _check_attributes(key: Any, record: KeyRecord) -> None:
    kind = record.kind if record.kind in REQUIRED else "signing"
    # REQUIRED wins: the manifest is a file, and an edited one must not be able to ask for less.
    for name, expected in (record.attributes | REQUIRED[kind]).items():
        if read_attribute(key, name) != expected:
            raise HsmKeyMismatch(f"{record.label}: CKA_{name} is not {expected!r}")


def read_attribute(key: Any, name: str) -> Any:
    """Return the attribute as JSON has it: a bool, a number, or a list of numbers; None when absent."""
    try:
        value = key[Attribute[name]]
    except (ck.PKCS11Error, KeyError):
        # Absent counts as unlike: a module that does not report an attribute cannot be said to keep it.
        return None
    if isinstance(value, list):
        # Modules list mechanisms in any order.
        return sorted(int(item) for item in value)
    return value if isinstance(value, bool) else int(value)


def _check_master(key: Any, record: KeyRecord) -> None:
    canary = bytes.fromhex(record.canary)
    opened = _open_canary(key, canary, record.label)
    try:
        if key_check_value(opened).hex() != record.kcv:
            raise HsmKeyMismatch(f"{record.label} does not have the pinned key check value")
    finally:
        opened.destroy()
    # On the canary, which is known to open: a refusal of a bad blob would prove nothing about the template.
    require_hidden(key, canary, TENANT_KEY_USE, record.label, **_TENANT_KEY_UNWRAPPED)


def _open_canary(master: Any, canary: bytes, label: str) -> Any:
    with suppress(*AMBIGUOUS, *REFUSED):
        return unwrap_tenant_key(master, canary)
    # SoftHSM's word for a bad blob is also its word for a passing failure: asked twice.
    try:
        return unwrap_tenant_key(master, canary)
    except ck.PKCS11Error as error:
        if meaning(error) not in {Meaning.REFUSED, Meaning.AMBIGUOUS}:
            raise
        raise HsmKeyMismatch(f"{label} does not open its canary: another key of that id") from error


def require_hidden(unwrapping: Any, blob: bytes, template: Template, name: str, **how: Any) -> None:
    """Raise HsmKeyMismatch when `unwrapping` gives out a readable object: it has no unwrap template, or a weak one.

    blob, template, how: with which it does unwrap. Only readability is asked for beside, since SoftHSM refuses a
    template that leaves out what is listed with the same word. Raises PKCS11Error for every refusal but the one that
    means it: any other proves nothing.
    """
    readable = template | {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    try:
        opened = unwrapping.unwrap_key(ObjectClass.SECRET_KEY, KeyType.AES, blob, template=readable, **how)
    except ck.TemplateInconsistent:
        # CKR_TEMPLATE_INCONSISTENT, PKCS#11 2.40 section 4.1.2; what SoftHSM says (HSM section 3.3).
        return
    try:
        # Some modules apply the template instead of refusing what contradicts it.
        if not opened[Attribute.SENSITIVE]:
            raise HsmKeyMismatch(f"{name} unwraps keys as readable: it has lost its unwrap template")
    finally:
        with suppress(ck.PKCS11Error):
            opened.destroy()


def unwrap_tenant_key(master: Any, blob: bytes) -> Any:
    """Return the tenant key as a session object that encrypts and decrypts, and cannot be read or wrapped."""
    return master.unwrap_key(
        ObjectClass.SECRET_KEY, KeyType.AES, blob, template=TENANT_KEY_USE, **_TENANT_KEY_UNWRAPPED
    )


def _check_modulus(key: Any, record: KeyRecord) -> None:
    public = load_der_public_key(bytes.fromhex(record.public))
    if not isinstance(public, RSAPublicKey):
        raise HsmKeyMismatch(f"{record.label}: the pinned public key is not RSA")
    # The modulus stands on the private object too, so this knows the key without using it.
    if int.from_bytes(key[Attribute.MODULUS], "big") != public.public_numbers().n:
        raise HsmKeyMismatch(f"{record.label} is not the private half of the pinned public key")
