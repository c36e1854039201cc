# SPDX-License-Identifier: Apache-2.0
"""The Python SDK: everything that private keys do happens in this package, on the device.

Implements the client's side of the pages PROTOCOL and ESCROW over the REST API.
Trusts nothing the server says that does not follow from what this device has pinned.
"""
