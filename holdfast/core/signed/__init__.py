# SPDX-License-Identifier: Apache-2.0
"""What is signed and how: COSE_Sign1, the statements' payloads and sets, request signatures, enrolment codes."""
