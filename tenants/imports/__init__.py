# SPDX-License-Identifier: Apache-2.0
"""People from a file, and to a file: read and named line by line, confirmed as an act, then done in the background.

Implements ORGANISATION "People from a file".
"""
