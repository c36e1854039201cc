# SPDX-License-Identifier: Apache-2.0
"""What a company can get back and how: archive keys, deposits, approvals by m of n officers, the release."""
