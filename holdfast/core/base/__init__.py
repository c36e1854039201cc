# SPDX-License-Identifier: Apache-2.0
"""The ground of the protocol: refusals, deterministic CBOR, secrets that do not print, words to compare, padding.

Knows no key and no signature; everything else in the core stands on it.
"""
