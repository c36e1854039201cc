# SPDX-License-Identifier: Apache-2.0
"""What befalls a browser: closed pages, full disks, cleared data, wrong clocks; the TypeScript SDK in Chromium."""
