# SPDX-License-Identifier: Apache-2.0
"""Every parser of the core under a coverage-guided fuzzer (FAULTS G9, C1): `python -m tests.faults.fuzz <parser>`."""
