# SPDX-License-Identifier: Apache-2.0
"""Acts of administration: each looked at in words, confirmed with a one-time code for exactly these words, then done.

Implements ORGANISATION "Acts". `act` says what an act is, `engine` is the one way in,
`people` holds those on people; apps above register their own at start.
"""
