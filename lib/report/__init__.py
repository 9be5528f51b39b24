"""Executed notebooks as pages that need no network; the report's is the first of them.

Behind it: nbconvert with our template, the confusion explorer, and the README's tables.
"""

from lib.report.stale import stale_pages

__all__ = ["stale_pages"]
