# SPDX-License-Identifier: Apache-2.0
"""The tamper-evident logs, seen from outside: Merkle proofs, checkpoints, tiles, entries, exports, followers."""
