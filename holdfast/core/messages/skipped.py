# SPDX-License-Identifier: Apache-2.0
"""Keys of messages that have not arrived yet, by chain: bounded in number, in chains and in time.

Implements the limits of PROTOCOL section 4 for the store MKSKIPPED of Signal's Double Ratchet, revision 4.
Does not derive keys; `ratchet` does, and asks here before it gives a message up.
Specification: https://signal.org/docs/specifications/doubleratchet/ section 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from holdfast.core.base.encoding import MAX_UINT, MAX_VAULT, Encodable, Fields, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import HoldsSecrets, SecretBytes
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS

# As many as one step can skip, 1,000 in either chain: what was just stored never pushes itself out. 88 KB at most.
# Double Ratchet "Deletion of skipped message keys" asks for a limit: else a peer fills the disk with high numbers.
MAX_STORED: Final = 2000
# Each costs one header opening for every junk message: five, and the two of the present, make seven
# (PROTOCOL section 4).
MAX_OLD_CHAINS: Final = 5
# The server keeps a message for 30 days: what has not come by then will not. The same section of the specification says
# why not longer: who recorded the lost message and later takes the device would read it.
LIFE_SECONDS: Final = 30 * 86_400
_ENTRY: Final = struct.Struct(">IQ32s")  # number, stored at, message key


class SkippedKeys(HoldsSecrets):
    """Message keys grouped by the header key of their chain, oldest chain and key first.

    The groups make a look-up two dictionary accesses however many keys are stored, and let a message that is not ours
    be given up after one trial per chain instead of one per key.
    """

    __slots__ = ("_chains", "count", "is_changed")

    def __init__(self) -> None:
        self._chains: dict[bytes, dict[int, tuple[bytes, int]]] = {}
        self.count = 0
        self.is_changed = False

    def header_keys(self) -> Iterable[bytes]:
        """Return the header keys, 32 bytes each, of chains with a stored key, oldest first."""
        return self._chains.keys()

    def find(self, header_key: bytes, number: int) -> bytes | None:
        """Return the 32-byte key of one message, which stays stored until remove(); None when there is none."""
        # A dictionary is no constant-time store, and need not be: this header key has just opened the header.
        stored = self._chains.get(header_key, {}).get(number)
        return stored[0] if stored else None

    def remove(self, header_key: bytes, number: int) -> None:
        """Drop the key of a message that was opened; the chain goes with its last key."""
        chain = self._chains[header_key]
        del chain[number]
        # A header key without missing messages opens nothing any more, and would still cost each junk message a trial.
        if not chain:
            del self._chains[header_key]
        self.count -= 1
        self.is_changed = True

    def add(self, header_key: bytes, keys: Mapping[int, bytes], now: int) -> None:
        """Store keys by number, at `now` (UTC seconds); beyond 2,000 in all, the oldest go."""
        if not keys:
            return
        # Dictionaries keep the order of arrival: the first chain, and the first key in it, are the oldest.
        chain = self._chains.setdefault(header_key, {})
        chain.update((number, (key, now)) for number, key in keys.items())
        self.count += len(keys)
        self.is_changed = True
        while self.count > MAX_STORED:
            oldest = next(iter(self._chains))
            self.remove(oldest, next(iter(self._chains[oldest])))

    def turn(self, old: bytes, rest: Mapping[int, bytes], new: bytes, missing: Mapping[int, bytes], now: int) -> None:
        """Go over to the chain of header key `new`: store what the old one still lacks, and what the new one skips.

        Of old chains the 5 newest that lack something are kept: what bounds the trials for a junk message.
        """
        if not (self.count or rest or missing):
            return
        # The old chain first: what this order says of age is what add() and the limit below go by.
        self.add(old, rest, now)
        self.add(new, missing, now)
        old_chains = [key for key in self._chains if key != new]
        for key in old_chains[: max(0, len(old_chains) - MAX_OLD_CHAINS)]:
            self.count -= len(self._chains.pop(key))
            self.is_changed = True

    def expire(self, now: int) -> None:
        """Drop the keys that were stored 30 days or longer ago. One that was stored in the future counts from `now`."""
        # Each key by its own time: a chain stays while one of its keys does. A clock that was ahead keeps none longer.
        kept = {
            header_key: {
                number: (key, at if at <= now + MAX_AHEAD_SECONDS else now)
                for number, (key, at) in chain.items()
                if now < at + LIFE_SECONDS
            }
            for header_key, chain in self._chains.items()
        }
        if kept != self._chains:
            self._put({header_key: chain for header_key, chain in kept.items() if chain})
            self.is_changed = True

    def _put(self, chains: dict[bytes, dict[int, tuple[bytes, int]]]) -> None:
        self._chains = chains
        self.count = sum(len(chain) for chain in chains.values())

    def to_secret(self) -> SecretBytes:
        """Return dCBOR [[header key, entries], …]; an entry is number u32, time u64 and key, 44 bytes."""
        rows: list[Encodable] = [
            [header_key, b"".join(_ENTRY.pack(number, at, key) for number, (key, at) in chain.items())]
            for header_key, chain in self._chains.items()
        ]
        return SecretBytes(encode(rows))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> SkippedKeys:
        """Undo to_secret. Raises Malformed."""
        value = decode(secret.reveal(), max_size=MAX_VAULT)
        if not isinstance(value, list):
            raise Malformed("skipped keys: not an array")
        chains = {}
        for item in value:
            row = Fields.of_row(item, "skipped keys", 2)
            entries = row.octets(1)
            if not entries or len(entries) % _ENTRY.size:
                raise row.refuse(1, "is not whole entries")
            chain = {number: (key, at) for number, at, key in _ENTRY.iter_unpack(entries)}
            # As every other time: what reads it need not know integers that others cannot hold.
            if any(at > MAX_UINT for _, at in chain.values()):
                raise row.refuse(1, "names a time above 2^53 - 1")
            chains[row.octets(0, 32)] = chain
        self = cls()
        self._put(chains)
        return self
