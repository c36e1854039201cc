# SPDX-License-Identifier: Apache-2.0
"""The commands, one file or folder for each group."""
