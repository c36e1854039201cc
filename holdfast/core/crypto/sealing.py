# SPDX-License-Identifier: Apache-2.0
"""One-shot sealing to a device's, an officer's or a process's X-Wing key.

Implements PROTOCOL section 1: HPKE base mode (RFC 9180), MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM.
Does not authenticate the sender: whoever holds the public key can seal, so a signed statement says who did.
HPKE: https://www.rfc-editor.org/rfc/rfc9180 sections 5.1.1 and 6.1.
X-Wing: https://datatracker.ietf.org/doc/draft-connolly-cfrg-xwing-kem/ section 5.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke

from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey

# What sealing adds: 1,088 bytes of ML-KEM-768, 32 of X25519, 16 of GCM tag.
OVERHEAD: Final = 1088 + 32 + 16

# RFC 9180 section 7, KEM 0x647a of the X-Wing draft: the one combination of PROTOCOL section 1.
_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def seal(plaintext: SecretBytes, *, to: PublicKey, info: bytes) -> bytes:
    """Seal `plaintext` to the X-Wing key `to`; 1,136 bytes longer, different at every call.

    info: the whole context, made by `encoding.label`: the one-shot interface takes no associated data.
    Raises ValueError when `to` is of another kind (the caller's mistake). RFC 9180 section 6.1.
    """
    if to.kind is not KeyKind.X_WING:
        raise ValueError(f"{to.kind.name} keys are not sealed to")
    # `info` enters the key schedule (RFC 9180 section 5.1): another context is another key, so that a share moved to
    # another deposit, officer or letter does not open (FAULTS S9).
    return _SUITE.encrypt(plaintext.reveal(), to.parsed, info)


def open_sealed(sealed: bytes, *, key: SealingKey, info: bytes) -> SecretBytes:
    """Undo `seal` under the same `info`.

    Raises UnwrapFailed for a wrong key, another context, tampering and every malformed input, alike.
    """
    try:
        return SecretBytes(_SUITE.decrypt(sealed, key.parsed, info))
    # One answer for both: telling a bad ciphertext from a bad context would tell an attacker which half was right.
    except (InvalidTag, ValueError):
        raise UnwrapFailed("sealed message does not open") from None
