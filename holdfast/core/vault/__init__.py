# SPDX-License-Identifier: Apache-2.0
"""The encrypted vault and its doors: password, recovery phrase, other devices, trusted contacts, the export file."""
