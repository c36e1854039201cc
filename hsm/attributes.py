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
    A.WRAP: False,
    A.UNWRAP: False,
    A.DERIVE: False,
    A.SIGN: False,
    A.VERIFY: False,
    A.MODIFIABLE: False,
}

# An escrowed half as the escrow key may unwrap it: something that can be wrapped on, and nothing else.
ESCROWED_UNWRAP_TEMPLATE: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: True,
    A.TOKEN: False,
    A.ENCRYPT: False,
    A.DECRYPT: False,
    A.WRAP: False,
    A.UNWRAP: False,
    A.DERIVE: False,
    A.SIGN: False,
    A.VERIFY: False,
    A.MODIFIABLE: False,
}

MASTER: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.UNWRAP_TEMPLATE: TENANT_KEY_UNWRAP_TEMPLATE,
    A.ALLOWED_MECHANISMS: [Mechanism.AES_KEY_WRAP],
    A.MODIFIABLE: False,
}

ESCROW_PRIVATE: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.UNWRAP_TEMPLATE: ESCROWED_UNWRAP_TEMPLATE,
    A.ALLOWED_MECHANISMS: [Mechanism.RSA_PKCS_OAEP],
    A.MODIFIABLE: False,
}

TENANT_KEY_BIRTH: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: True,
    A.PRIVATE: True,
    A.MODIFIABLE: False,
}
TENANT_KEY_USE: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: False,
    A.PRIVATE: True,
    A.MODIFIABLE: False,
}
ESCROWED: Final[Template] = {
    A.SENSITIVE: True,
    A.EXTRACTABLE: True,
    A.PRIVATE: True,
    A.TOKEN: False,
    A.MODIFIABLE: False,
}

TENANT_KEY_CAPABILITIES: Final = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
WRAPPING_CAPABILITIES: Final = MechanismFlag.WRAP | MechanismFlag.UNWRAP
SIGNING_CAPABILITIES: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY
NO_CAPABILITIES: Final = 0

OAEP_PARAMETERS: Final[Mapping[OaepAlgorithm, tuple[Mechanism, MGF, None]]] = {
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
}

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
    "escrow": _NEVER_LEFT
    | {
        "KEY_TYPE": int(KeyType.RSA),
        "UNWRAP": True,
        "DECRYPT": False,
        "SIGN": False,
        "ALLOWED_MECHANISMS": [int(Mechanism.RSA_PKCS_OAEP)],
    },
    "signing": _NEVER_LEFT | {"SIGN": True, "DECRYPT": False, "UNWRAP": False},
}


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
