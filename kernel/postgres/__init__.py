# SPDX-License-Identifier: Apache-2.0
"""Django's backend for PostgreSQL with a shorter way for the statements of the hot paths; its module is `base`."""
