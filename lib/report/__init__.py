"""Executed notebooks as pages that need no network; the report, the last of them, is the first page.

Behind it: nbconvert with our template, the confusion explorer, and the README's tables.
"""

from lib.report.pages import stale_pages, write_page

__all__ = ["stale_pages", "write_page"]
