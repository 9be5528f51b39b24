"""Executed notebooks as pages that need no network; the report's is the first of them.

Behind it: nbconvert with our template, the confusion explorer, and the README's tables.
"""

from lib.report.pages import stale_pages, write_page

__all__ = ["stale_pages", "write_page"]
