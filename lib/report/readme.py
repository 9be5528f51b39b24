"""The README's tables and picture: copied from the stored report, whose cells made them."""

import base64
from pathlib import Path

from lib.errors import InputError
from lib.files import ROOT, write_whole
from lib.report.pages import read_notebook
from lib.report.stale import REPORT_NOTEBOOK

README, PICTURE = ROOT / "README.md", ROOT / "docs" / "overview.png"
STORED = ROOT / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb"
EMNIST = ROOT / "outputs" / "emnist" / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb"
TABLES = {"emnist": "results", "findings": "findings"}


def write_readme(notebook: Path = STORED, readme: Path = README, picture: Path = PICTURE) -> None:
    """Puts tables and picture of an executed report into the README and beside it."""
    write_whole(picture, base64.b64decode(output_of(notebook, "readme-overview", "image/png")))
    write_whole(readme, with_tables(readme.read_text(encoding="utf-8"), notebook))


def with_tables(text: str, notebook: Path, emnist: Path = EMNIST) -> str:
    """The text with what stands between <!-- NAME --> and <!-- end --> made anew, of TABLES.

    Each is the output of a cell tagged readme-...: of `emnist`, the report on EMNIST, or the other.
    """
    for name, tag in TABLES.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            source = emnist if name == "emnist" else notebook
            table = output_of(source, f"readme-{tag}", "text/markdown").strip()
            text = f"{before}{mark}{table}\n{rest[rest.index('<!-- end -->') :]}"
    return text


def output_of(notebook: Path, tag: str, kind: str) -> str:
    """What the cell with this tag shows; InputError where it shows no such thing."""
    for cell in read_notebook(notebook).cells:
        for output in cell.get("outputs", []) if tag in cell.metadata.get("tags", []) else []:
            if kind in output.get("data", {}):
                return output.data[kind]
    raise InputError(f"{notebook.name} has no output tagged {tag}: `invoke refresh` makes it.")
