# SPDX-License-Identifier: Apache-2.0
"""What axe-core finds on a page: the rules of WCAG 2.2, A and AA, and its own best practices."""

from __future__ import annotations

from functools import cache
from importlib import resources

from playwright.sync_api import Page


@cache
def _axe() -> str:
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()


def findings(page: Page) -> list[str]:
    """Return what axe-core holds against the open page, one line for each element: the rule and where.

    The script runs from outside the page, so that the page's own policy for scripts stays as strict as it is.
    """
    page.evaluate(f"() => {{ {_axe()} }}")
    found = page.evaluate("() => axe.run({resultTypes: ['violations']}).then(answer => answer.violations)")
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
