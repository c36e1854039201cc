# SPDX-License-Identifier: Apache-2.0
"""Padding of what is encrypted, so that a ciphertext's length tells little about the plaintext's.

Implements Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019, section 4), as
PROTOCOL section 4 frames it. Does not hide whether a message was sent, nor more of its length than Padmé does.
Specification: https://petsymposium.org/popets/2019/popets-2019-0056.pdf section 4.
"""

import functools
import struct
from typing import Final

from holdfast.core.base.errors import Malformed

LENGTH_SIZE: Final = 4  # bytes, u32: the same for every message, so the length says nothing by its own size
_LENGTH: Final = struct.Struct(">I")  # compiled once: it is read for every message


# Sizes repeat, and a look-up costs a fifth of the arithmetic on the path of every message.
@functools.lru_cache(maxsize=4096)
def padded_size(size: int) -> int:
    """Return Padmé(size): at most 12 % more for any size, and at most 6.25 % more from 2^16 - 1 on.

    What is left of `size` are its log2(log2(size)) + 1 highest bits: all an observer learns.
    """
    # E would be 0 or not exist, and Padmé takes its logarithm.
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    # E − S low bits become zero, rounding up: S = bit_length(E) is Padmé's floor(log2 E) + 1.
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


def pad(plaintext: bytes) -> bytes:
    """Return u32 length || plaintext || zeros, Padmé(4 + length) bytes in all. PROTOCOL section 4."""
    size = len(plaintext)
    return (size.to_bytes(LENGTH_SIZE, "big") + plaintext).ljust(padded_size(LENGTH_SIZE + size), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo `pad`. Raises Malformed for another size than Padmé's, and for padding that is not zeros.

    One plaintext has exactly one padded form: nothing can be carried in the padding unseen.
    """
    size = len(padded)
    if size < LENGTH_SIZE:
        raise Malformed("padding: no length")
    end = LENGTH_SIZE + int(_LENGTH.unpack_from(padded)[0])
    # Checked although GCM has authenticated it: an honest peer pads in one way, and a dishonest one gets no second
    # channel in sizes or bytes that a reader would not show.
    if padded_size(end) != size:
        raise Malformed("padding: not the size that its length calls for")
    if padded.count(0, end) != size - end:
        raise Malformed("padding: not zeros")
    return padded[LENGTH_SIZE:end]
