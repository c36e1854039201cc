# SPDX-License-Identifier: Apache-2.0
"""Draw one curve, read as JSON from standard input, into the SVG file named. Runs where matplotlib is, without ours."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "holdfast"  # the same curve is the same file

from matplotlib import pyplot  # noqa: E402


def main() -> None:
    """Draw: x logarithmic, y from zero, a line for each name."""
    curve = json.load(sys.stdin)
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in curve["lines"].items():
        axes.plot(curve["x"], values, marker="o", label=name)
    axes.set(xscale="log", xlabel=curve["across"], ylabel=curve["up"], title=curve["title"])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
