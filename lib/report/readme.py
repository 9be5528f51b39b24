"""The README's tables and picture: copied from the stored report, whose cells made them."""

import base64
from pathlib import Path

from lib.errors import InputError
from lib.files import ROOT, write_whole
from lib.report.pages import read_notebook
from lib.report.stale import REPORT_NOTEBOOK

README, PICTURE = ROOT / "README.md", ROOT / "docs" / "overview.png"
STORED = ROOT / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb"
TABLES = ("results", "findings")  # between <!-- results --> and <!-- end -->, and so on


def write_readme(notebook: Path = STORED, readme: Path = README, picture: Path = PICTURE) -> None:
    """Puts tables and picture of an executed report into the README and beside it."""
    write_whole(picture, base64.b64decode(output_of(notebook, "readme-overview", "image/png")))
    write_whole(readme, with_tables(readme.read_text(encoding="utf-8"), notebook))


def with_tables(text: str, notebook: Path) -> str:
    """The text with each marked table replaced by the output of the cell tagged readme-<table>."""
    for name in TABLES:
        table = output_of(notebook, f"readme-{name}", "text/markdown").strip()
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}{mark}{table}\n{rest[rest.index('<!-- end -->') :]}"
    return text


def output_of(notebook: Path, tag: str, kind: str) -> str:
    """What the cell with this tag shows; InputError where it shows no such thing."""
    for cell in read_notebook(notebook).cells:
        for output in cell.get("outputs", []) if tag in cell.metadata.get("tags", []) else []:
            if kind in output.get("data", {}):
                return output.data[kind]
    raise InputError(f"{notebook.name} has no output tagged {tag}: `invoke refresh` makes it.")
