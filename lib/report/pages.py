"""Executed notebooks as pages: one file each, without anything from elsewhere.

outputs/<profile>/report/
    index.html              the report, its code left out
    notebooks/<step>.html   every other notebook, its code folded
"""

import os
import re
from functools import cache
from pathlib import Path

import bleach
import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from lib.errors import InputError
from lib.files import write_whole
from lib.reading.page import load_networks, page_data, part
from lib.report import REPORT_NOTEBOOK, TEMPLATES, page_of

TAGS = {*bleach.ALLOWED_TAGS, *"h1 h2 h3 h4 p div span pre br hr sub sup".split()}
TAGS |= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"*": ["class", "id", "scope", "colspan", "rowspan"], "a": ["href", "title"]}


def write_page(outputs: Path, notebook: Path) -> Path:
    """Writes the page of an executed notebook; InputError for one that is damaged."""
    page, content = page_of(outputs, notebook), read_notebook(notebook)
    is_report = notebook.stem == REPORT_NOTEBOOK
    others = {path.stem: path for path in sorted((outputs / "notebooks").glob("*.ipynb"))}
    prepare(content, set(others), "notebooks/" if is_report else "")
    resources = {"title": title_of(content, notebook), "stem": notebook.stem}
    resources |= {"is_report": is_report, "has_report": REPORT_NOTEBOOK in others, "pages": {}}
    if is_report:
        resources["draw"] = part(page_data(load_networks(outputs)[0], outputs))
        others.pop(REPORT_NOTEBOOK, None)
        for stem, path in others.items():  # all trainings have the same title
            title = title_of(read_notebook(path), path)
            resources["pages"].setdefault(title, []).append(stem)
    write_whole(page, exporter().from_notebook_node(content, resources)[0])
    since = notebook.stat().st_mtime  # in the future, if the clock was set back
    if page.stat().st_mtime <= since:
        os.utime(page, (since + 1, since + 1))
    return page


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook; InputError for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError):
        raise InputError(f"{path} is damaged: delete it and run its profile again.") from None


def title_of(notebook: nbformat.NotebookNode, path: Path) -> str:
    """The first heading of a notebook, or its file's name."""
    prose = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.+)", "\n".join(prose), flags=re.M)
    return found[1].strip() if found else path.stem


def prepare(notebook: nbformat.NotebookNode, pages: set[str], folder: str) -> None:
    """Gives every figure the prose above it as its text alternative, and links pages, not files."""

    def linked(link: re.Match) -> str:
        return f"[{link[1]}]({folder}{link[2]}.html)" if link[2] in pages else link[1]

    above = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[([^]]+)\]\(([^)]+)\.ipynb\)", linked, cell.source)
            prose = " ".join(line for line in cell.source.splitlines() if line[:1] != "#")
            above = re.sub(r"\[([^]]*)\]\([^)]*\)|[*`_]", r"\1", prose).strip() or above
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata.setdefault("image/png", {}).setdefault("alt", f"Figure. {above}")


@cache  # making it takes longer than a page
def exporter() -> HTMLExporter:
    """nbconvert with the template of this room."""
    place = {"template_name": "page", "extra_template_basedirs": [str(TEMPLATES)]}
    made = HTMLExporter(sanitize_html=True, anchor_link_text="", **place)
    made.exclude_input_prompt = made.exclude_output_prompt = True
    made.register_filter("clean_html", clean_html)  # nbconvert's own takes paragraphs away
    return made


@cache  # all trainings have the same prose
def clean_html(html: str) -> str:
    """The HTML without scripts, styles, forms, or whatever else a page does not need."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup(["script", "style"]):
        element.decompose()
    return bleach.clean(str(soup), tags=TAGS, attributes=ATTRIBUTES, strip=True)
