"""The README's tables and picture: copied from the stored report, whose cells made them."""

import base64
from pathlib import Path

from lib.errors import InputError
from lib.files import ROOT, write_whole
from lib.report import REPORT_NOTEBOOK
from lib.report.pages import read_notebook

README, PICTURE = ROOT / "README.md", ROOT / "docs" / "overview.png"
STORED = ROOT / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb"
SHOWN = ("results", "findings")  # of the report on EMNIST
EMNIST = ROOT / "outputs" / "emnist" / "notebooks" / f"{REPORT_NOTEBOOK}.ipynb"


def write_readme(notebook: Path = STORED, readme: Path = README, picture: Path = PICTURE) -> None:
    """Puts tables and picture of an executed report into the README and beside it."""
    write_whole(picture, base64.b64decode(output_of(notebook, "readme-overview", "image/png")))
    write_whole(readme, with_tables(readme.read_text(encoding="utf-8"), notebook))


def with_tables(text: str, notebook: Path, emnist: Path = EMNIST) -> str:
    """The text with its tables made anew: EMNIST's, and the other's where EMNIST has no answer."""
    made = {tag: output_of(emnist, f"readme-{tag}", "text/markdown") for tag in SHOWN}
    answered = {line.split("|")[1] for line in made["findings"].splitlines()[2:]}
    lines = output_of(notebook, "readme-findings", "text/markdown").splitlines()
    made["more"] = "\n".join(line for line in lines if line.split("|")[1] not in answered)
    for name, table in made.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            text = f"{before}{mark}{table.strip()}\n{rest[rest.index('<!-- end -->') :]}"
    return text


def output_of(notebook: Path, tag: str, kind: str) -> str:
    """What the cell with this tag shows; InputError where it shows no such thing."""
    for cell in read_notebook(notebook).cells:
        for output in cell.get("outputs", []) if tag in cell.metadata.get("tags", []) else []:
            if kind in output.get("data", {}):
                return output.data[kind]
    raise InputError(f"{notebook.name} has no output tagged {tag}: `invoke refresh` makes it.")
