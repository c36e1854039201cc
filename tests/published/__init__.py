# SPDX-License-Identifier: Apache-2.0
"""What makes the published vectors of tests/vectors/holdfast: `python -m tests.published`, a module for each file."""
