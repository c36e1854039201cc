# SPDX-License-Identifier: Apache-2.0
"""How two devices talk: pre-keys and bundles, X3DH and PQXDH, the Double Ratchet, and what travels inside it."""
