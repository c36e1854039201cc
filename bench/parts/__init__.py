# SPDX-License-Identifier: Apache-2.0
"""What is measured: each module is a part with a `main()` that hands its rows to `bench.world.report`."""
