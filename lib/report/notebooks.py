"""Executed notebooks as pages: headings, code and figures, without scripts and without anything from elsewhere."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from lib.errors import InputError
from lib.report.writing import TEMPLATES, fill, write_whole

MANY = 3  # notebooks that are worth the start of other processes
ELSEWHERE = re.compile(
    r'href="(?!#|https?:|mailto:)[^"]*"'
)  # a link to a file, which the page may not find
SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """An executed notebook: its name, such as "03-train-custom-one_cycle-seed0", its title, and the file of its page."""

    name: str
    title: str
    file: Path


@contextmanager
def pages_of(notebooks: Path, target: Path) -> Iterator[list[Page]]:
    """Writes a page for each notebook of a folder while the body runs; at its end, all are there and no others.

    Pages that are newer than their notebook and the templates are left as they are.
    Raises InputError for a notebook that cannot be read.
    """
    sources = sorted(notebooks.glob("*.ipynb"))
    pages = [
        Page(source.stem, title_of(source), target / f"{source.stem}.html") for source in sources
    ]
    looks = max(path.stat().st_mtime for path in TEMPLATES.iterdir())
    stale = [
        (source, page)
        for source, page in zip(sources, pages)
        if not _is_fresh(page.file, max(source.stat().st_mtime, looks))
    ]
    if len(stale) < MANY:
        yield pages
        for source, page in stale:
            write_page(source, page)
    else:
        from lib.running.plan import n_cores

        with ProcessPoolExecutor(min(n_cores(), len(stale)), get_context("spawn")) as pool:
            written = pool.map(write_page, *zip(*stale))
            yield pages
            list(written)
    for old in set(target.glob("*.html")) - {page.file for page in pages}:
        old.unlink()


def _is_fresh(file: Path, since: float) -> bool:
    return file.exists() and file.stat().st_mtime > since


def title_of(notebook: Path) -> str:
    """The first heading of a notebook, or its name; InputError if the file is damaged."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError):
        raise InputError(f"{notebook} is damaged: delete it and run its profile again.") from None
    lines = (
        line
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
    )
    return next(
        (line.lstrip("# ").strip() for line in lines if line.startswith("# ")), notebook.stem
    )


def write_page(source: Path, page: Page) -> None:
    """Writes the page of one notebook."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    notebook = nbformat.read(source, as_version=4)
    describe_figures(notebook)
    body, _ = exporter.from_notebook_node(notebook)
    write_whole(
        page.file,
        fill(
            "notebook.html",
            title=page.title,
            name=page.name,
            body=ELSEWHERE.sub("", SCRIPT.sub("", body)),
        ),
    )


def describe_figures(notebook) -> None:
    """Gives every figure a text alternative: the prose above its cell, which in these notebooks says what to look for."""
    above = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = " ".join(line for line in cell.source.splitlines() if not line.startswith("#"))
            above = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`_]", r"\1", prose).strip() or above
        for output in cell.get("outputs", []):
            for kind in ("image/png", "image/jpeg"):
                if kind in output.get("data", {}):
                    output.metadata.setdefault(kind, {}).setdefault("alt", f"Figure. {above}")
