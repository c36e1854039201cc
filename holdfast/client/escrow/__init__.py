# SPDX-License-Identifier: Apache-2.0
"""The archive, its files, and their keys' deposits with the company, after consent."""

# The modules that other rooms may import: this room's door.
__all__ = ["archive", "deposits", "disclosures", "escrow"]
