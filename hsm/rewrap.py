# SPDX-License-Identifier: Apache-2.0
"""The blind re-wrap: from the escrow key to the recipient's key without the plaintext leaving the HSM.

Implements HSM section 3.1, suite R1 (RSA-OAEP to RSA-OAEP). One C_UnwrapKey for each call.
Checks nothing about who asked: that is the release process.
RSA-OAEP: https://www.rfc-editor.org/rfc/rfc8017 section 7.1; PKCS#11 2.40 base specification section 5 (C_WrapKey,
C_UnwrapKey).
"""

from contextlib import suppress
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11 import exceptions as ck

from hsm.attributes import ESCROWED, NO_CAPABILITIES, oaep_parameters, recipient_public
from hsm.backend import OaepAlgorithm
from hsm.errors import HsmRefused, HsmUnavailable

_RSA_BITS = 3072  # ESCROW "Keys": one size for every RSA key
_RSA_EXPONENT = 65537  # as WebCrypto and most modules make it; 3 would be weaker, and rare


def recipient_numbers(spki: bytes) -> RSAPublicNumbers:
    """Raise HsmRefused unless `spki` is canonical DER of RSA-3072 with e = 65537 (ESCROW "Keys")."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HsmRefused("the recipient's key is not a DER public key") from error
    if (
        not isinstance(key, RSAPublicKey)
        or key.key_size != _RSA_BITS
        or key.public_numbers().e != _RSA_EXPONENT
        # The one encoding: case and words are made of these bytes, and one key must have one name.
        or key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki
    ):
        raise HsmRefused("the recipient's key is not RSA-3072 with e = 65537 in canonical DER")
    return key.public_numbers()


def rewrap(
    session: Any,
    escrow_key: Any,
    sealed: bytes,
    recipient: RSAPublicNumbers,
    algorithm: OaepAlgorithm,
    *,
    label: bytes = b"",
) -> bytes:
    """Return 384 bytes for the recipient. Both session objects are destroyed whatever happens.

    label: under which it was sealed, if any; it is wrapped on without one, since the recipient's key is of one case.
    Raises PKCS11Error when the unwrap fails, HsmUnavailable when something fails after it.
    """
    # As AES, whatever the bytes are: PKCS#11 wants a key type, and SoftHSM does not check the length of what comes out.
    escrowed = escrow_key.unwrap_key(
        ObjectClass.SECRET_KEY,
        KeyType.AES,
        sealed,
        mechanism=Mechanism.RSA_PKCS_OAEP,
        mechanism_param=oaep_parameters(algorithm, label),
        capabilities=NO_CAPABILITIES,
        template=ESCROWED,
    )
    public = None
    try:
        # Imported after the unwrap, in the `try`: whatever fails from here on, the half is destroyed.
        modulus, exponent = recipient.n.to_bytes(_RSA_BITS // 8, "big"), recipient.e.to_bytes(3, "big")
        public = session.create_object({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **recipient_public(modulus, exponent)})
        return bytes(
            public.wrap_key(
                escrowed,
                mechanism=Mechanism.RSA_PKCS_OAEP,
                # The same hash on both sides: the recipient was told one, with the deposit.
                mechanism_param=oaep_parameters(algorithm),
            )
        )
    except ck.PKCS11Error as error:
        # Not the blob's fault: it has been unwrapped by now.
        raise HsmUnavailable(f"the HSM unwrapped and did not wrap: {error!r}") from error
    finally:
        destroy(escrowed)
        if public is not None:
            destroy(public)


def destroy(session_object: Any) -> None:
    """Destroy now what would die with its session; a failure must not hide the operation's own outcome."""
    with suppress(ck.PKCS11Error):
        session_object.destroy()
