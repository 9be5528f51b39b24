"""Executed notebooks as pages that need no network; the report's is the first of them.

Here: which have to be written, without nbconvert, whose import takes four seconds. Behind it:
nbconvert with our template, the confusion explorer, and the README's tables.
"""

from pathlib import Path

from lib.files import REPORT

TEMPLATES, PAGES = (Path(__file__).parent / name for name in ("templates", "pages.py"))
REPORT_NOTEBOOK = "11-report"


def stale_pages(outputs: Path) -> list[Path]:
    """Executed notebooks whose page is missing or older than they or the templates, report last."""
    looks = max(path.stat().st_mtime for path in [*TEMPLATES.rglob("*.*"), PAGES])

    def is_stale(source: Path) -> bool:
        page, since = page_of(outputs, source), max(source.stat().st_mtime, looks)
        return not page.exists() or page.stat().st_mtime <= since

    sources = sorted((outputs / "notebooks").glob("*.ipynb"))
    return sorted(filter(is_stale, sources), key=lambda source: source.stem == REPORT_NOTEBOOK)


def page_of(outputs: Path, notebook: Path) -> Path:
    """The file of a notebook's page."""
    report = outputs / REPORT
    chapter = report.parent / "notebooks" / f"{notebook.stem}.html"
    return report if notebook.stem == REPORT_NOTEBOOK else chapter
