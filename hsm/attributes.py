# SPDX-License-Identifier: Apache-2.0
"""The templates of every key, the attributes that a key on a token must show, and how arrays are packed.

Implements HSM sections 3.1 and 3.4: never wrap and decrypt on one key, one mechanism for each key.
Makes no PKCS#11 calls. MODIFIABLE stays last in every template (SoftHSM 2.6.1 refuses what follows it).
"""

import ctypes
from collections.abc import Mapping
from typing import Any, Final

from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag
from pkcs11.attributes import AttributeMapper

from hsm.backend import OaepAlgorithm

A = Attribute
Template = dict[Attribute, Any]

# A tenant key as the master key may unwrap it. EXTRACTABLE is left open: rotation re-wraps inside the HSM.
TENANT_KEY_UNWRAP_TEMPLATE: Final[Template] = {
    A.SENSITIVE: True,
    A.TOKEN: False,
    # Neither wraps nor unwraps: a tenant key that could would bring out other keys,
    # or let in known ones (HSM section 3.4).
    A.WRAP: False,
    A.UNWRAP: False,
    A.DERIVE: False,
    A.SIGN: False,
    A.VERIFY: False,
    # SoftHSM lets usage flags be added to a modifiable key, so that every rule above would hold until somebody asked.
    A.MODIFIABLE: False,
}

# An escrowed half as the escrow key may unwrap it: something that can be wrapped on, and nothing else.
ESCROWED_UNWRAP_TEMPLATE: Final[Template] = {
    A.SENSITIVE: True,
    # It has to be wrapped to the recipient, so it cannot be closed. What keeps it in is that the escrow key alone gives
    # one, and only within the release process.
    A.EXTRACTABLE: True,
    A.TOKEN: False,
    # All uses are named: a use that is left out could be asked for by the caller. With DECRYPT or SIGN allowed, the
    # half could be used and compared without ever being read.
    A.ENCRYPT: False,
    A.DECRYPT: False,
    A.WRAP: False,
    A.UNWRAP: False,
    A.DERIVE: False,
    A.SIGN: False,
    A.VERIFY: False,
    A.MODIFIABLE: False,
}

# Wraps and unwraps tenant keys. With DECRYPT as well it would give them in the clear: wrap, then decrypt the blob.
MASTER: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    # PKCS#11 carries no attributes inside a wrapped blob: without this, the same blob could be unwrapped as readable.
    A.UNWRAP_TEMPLATE: TENANT_KEY_UNWRAP_TEMPLATE,
    # RFC 3394 and nothing else: AES-CBC would wrap without integrity, and of AES-KWP vendors have different numbers.
    A.ALLOWED_MECHANISMS: [Mechanism.AES_KEY_WRAP],
    A.MODIFIABLE: False,
}

# Unwraps and never decrypts: decrypting would hand the half to whoever holds the PIN.
ESCROW_PRIVATE: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.UNWRAP_TEMPLATE: ESCROWED_UNWRAP_TEMPLATE,
    # No PKCS#1 v1.5, whose padding is an oracle, and no raw RSA.
    A.ALLOWED_MECHANISMS: [Mechanism.RSA_PKCS_OAEP],
    A.MODIFIABLE: False,
}

# Says that a wrapped tenant key is this tenant's and of this version; AES-KW says only that a blob is whole. It does
# nothing else, and what it makes is no secret.
BINDING: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.ALLOWED_MECHANISMS: [Mechanism.SHA256_HMAC],
    A.MODIFIABLE: False,
}

# Extractable once, for the one wrap that makes its blob; destroyed in the same call.
TENANT_KEY_BIRTH: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: True,
    A.PRIVATE: True,
    A.MODIFIABLE: False,
}
# The same key as it works: what a process holds for years cannot be wrapped out again.
TENANT_KEY_USE: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.MODIFIABLE: False,
}
# A half between unwrap and wrap. Stated in full though the unwrap template says it too: SoftHSM wants every
# listed attribute repeated, other modules apply them, and python-pkcs11 by itself sets neither SENSITIVE
# nor PRIVATE (HSM section 8, quirk 4).
ESCROWED: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: True,
    A.PRIVATE: True,
    A.TOKEN: False,
    A.MODIFIABLE: False,
}

# python-pkcs11's default uses include wrapping beside decrypting, so uses are always given (HSM section 8, quirk 5).
TENANT_KEY_CAPABILITIES: Final = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
# Of a pair the public half takes WRAP and the private one UNWRAP.
WRAPPING_CAPABILITIES: Final = MechanismFlag.WRAP | MechanismFlag.UNWRAP
SIGNING_CAPABILITIES: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY  # of a pair, SIGN falls to the private half
NO_CAPABILITIES: Final = 0  # an escrowed half is carried, never used

# ALWAYS_SENSITIVE, NEVER_EXTRACTABLE and LOCAL are the module's own memory: they cannot be set, and are false for a key
# that came in from outside or was ever readable. TOKEN, since a session object is gone with its session.
_NEVER_LEFT: Final[dict[str, Any]] = {
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    "ALWAYS_SENSITIVE": True,
    "NEVER_EXTRACTABLE": True,
    "LOCAL": True,
    "TOKEN": True,
    "PRIVATE": True,
    "MODIFIABLE": False,
    "DERIVE": False,
}

# What a key of each kind must show, whatever the manifest says: a manifest can ask for more, never for less.
REQUIRED: Final[Mapping[str, dict[str, Any]]] = {
    "master": _NEVER_LEFT
    | {
        "KEY_TYPE": int(KeyType.AES),
        "WRAP": True,
        "UNWRAP": True,
        "ENCRYPT": False,
        "DECRYPT": False,
        "SIGN": False,
        "VERIFY": False,
        "ALLOWED_MECHANISMS": [int(Mechanism.AES_KEY_WRAP)],
    },
    "binding": _NEVER_LEFT
    | {
        "KEY_TYPE": int(KeyType.GENERIC_SECRET),
        "SIGN": True,
        "VERIFY": True,
        "ENCRYPT": False,
        "DECRYPT": False,
        "WRAP": False,
        "UNWRAP": False,
        "ALLOWED_MECHANISMS": [int(Mechanism.SHA256_HMAC)],
    },
    "escrow": _NEVER_LEFT
    | {
        "KEY_TYPE": int(KeyType.RSA),
        "UNWRAP": True,
        "DECRYPT": False,
        "SIGN": False,
        "ALLOWED_MECHANISMS": [int(Mechanism.RSA_PKCS_OAEP)],
    },
    # No mechanism here: it is Ed25519's or P-256's, as the manifest has it.
    "signing": _NEVER_LEFT | {"SIGN": True, "DECRYPT": False, "UNWRAP": False},
}


def oaep_parameters(algorithm: OaepAlgorithm, label: bytes = b"") -> tuple[Mechanism, MGF, bytes | None]:
    """Return CK_RSA_PKCS_OAEP_PARAMS as python-pkcs11 takes them: hash, MGF1 with the same, and the label, if any."""
    # Always given: without parameters python-pkcs11 silently takes SHA-1 (HSM section 8, quirk 12). One hash for both,
    # since WebCrypto has one for OAEP and MGF1.
    if algorithm.startswith("oaep-sha1"):
        return Mechanism.SHA_1, MGF.SHA1, label or None
    return Mechanism.SHA256, MGF.SHA256, label or None


def signing_private(mechanism: Mechanism) -> Template:
    """Return the template of a private key that signs with `mechanism` and does nothing else."""
    return {
        A.SENSITIVE: True,
        A.EXTRACTABLE: False,
        A.PRIVATE: True,
        A.ALLOWED_MECHANISMS: [mechanism],
        A.MODIFIABLE: False,
    }


def recipient_public(modulus: bytes, exponent: bytes) -> Template:
    """Return the template of an imported recipient key: a session object that can only wrap."""
    return {
        # A session object for one call. ENCRYPT is off, so that this handle can only take a key that stays inside.
        A.KEY_TYPE: KeyType.RSA,
        A.TOKEN: False,
        A.PRIVATE: False,
        A.WRAP: True,
        A.ENCRYPT: False,
        A.VERIFY: False,
        A.MODULUS: modulus,
        A.PUBLIC_EXPONENT: exponent,
    }


class _Attribute(ctypes.Structure):
    """CK_ATTRIBUTE, PKCS#11 2.40 base specification section 3.5."""

    _fields_ = (
        ("type", ctypes.c_ulong),
        ("pValue", ctypes.c_void_p),
        ("ulValueLen", ctypes.c_ulong),
    )


# CK_ULONG, in which PKCS#11 counts everything: 8 bytes on 64-bit Linux, 4 on other platforms.
_ULONG = ctypes.sizeof(ctypes.c_ulong)


class ArrayMapper(AttributeMapper):
    """Packs CKA_UNWRAP_TEMPLATE and CKA_ALLOWED_MECHANISMS, which python-pkcs11 0.10 cannot."""

    def __init__(self) -> None:
        super().__init__()
        # The packed array holds pointers: what they point at must outlive the C call. Templates are packed
        # when a key is made, a few times in the life of a ceremony, so all of it is kept.
        self._kept: list[Any] = []
        self.register_handler(A.UNWRAP_TEMPLATE, self._pack_template, bytes)
        self.register_handler(A.ALLOWED_MECHANISMS, _pack_mechanisms, _unpack_mechanisms)

    def _pack_template(self, template: Template) -> bytes:
        array = (_Attribute * len(template))()
        for slot, (attribute, value) in zip(array, template.items(), strict=True):
            raw = self.pack_attribute(attribute, value)
            buffer = ctypes.create_string_buffer(raw, len(raw))
            self._kept.append(buffer)
            slot.type, slot.pValue, slot.ulValueLen = int(attribute), ctypes.addressof(buffer), len(raw)
        return bytes(array)


def _pack_mechanisms(mechanisms: list[Mechanism]) -> bytes:
    return b"".join(int(mechanism).to_bytes(_ULONG, "little") for mechanism in mechanisms)


def _unpack_mechanisms(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[i : i + _ULONG], "little") for i in range(0, len(raw), _ULONG)]
