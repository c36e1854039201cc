# SPDX-License-Identifier: Apache-2.0
"""The primitives, each behind one type: keys, AEAD wrapping, HPKE sealing, Argon2id, Shamir shares, recovery phrase.

The only room of the core that calls the cryptography library's primitives.
"""
