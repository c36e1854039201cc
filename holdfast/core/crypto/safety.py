# SPDX-License-Identifier: Apache-2.0
"""Numbers that two people compare by voice, to know that no server stands between them.

Implements the 6 groups of 5 digits of PROTOCOL section 6 and the safety numbers of account identity keys.
Does not remember what was compared; contacts do.
"""

import hashlib
from typing import Final, TypeAlias

from holdfast.core.base.encoding import label
from holdfast.core.crypto.keys import PublicKey

# 30 digits, near 100 bits, against a second preimage; Signal's safety numbers have as many for each side.
GROUPS: Final = 6
Groups: TypeAlias = tuple[str, ...]


def six_groups(digest: bytes) -> Groups:
    """Return 6 groups of 5 digits (99.6 bits at most) of a SHA-256 digest of 32 bytes.

    Group k is the big-endian u32 of bytes 4k..4k+3, modulo 100,000. Raises ValueError for another length.
    """
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("digits are read from a SHA-256 digest")
    # 2^32 is not a multiple of 100,000: some groups are likelier by 1 in 43,000, which costs far less than a bit.
    return tuple(f"{int.from_bytes(digest[4 * k : 4 * k + 4], 'big') % 100_000:05}" for k in range(GROUPS))


def own_number(*, tenant: bytes, user: bytes, aik: PublicKey) -> Groups:
    """Return one user's half of a safety number: it changes with the account identity key, and with nothing else."""
    return six_groups(hashlib.sha256(label("safety-number", tenant, user, aik.encoded)).digest())


def pair_number(half: Groups, other: Groups) -> Groups:
    """Return the 12 groups that both people see alike: the two halves, the lesser first."""
    # Sorted, as neither of the two is "first": both screens must show one number.
    return (*min(half, other), *max(half, other))
