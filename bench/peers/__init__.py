# SPDX-License-Identifier: Apache-2.0
"""The floors and peers that ours is measured beside, each a program of its own, started on loopback and ended by us."""
