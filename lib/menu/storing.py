"""The stored notebooks, executed where they are."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lib.errors import InputError
from lib.files import write_whole
from lib.running.notebook import quiet_environment

WIDGET = "application/vnd.jupyter.widget-view+json"


def store(notebook: Path, environment: dict[str, str]) -> None:
    """Executes a notebook where it is; InputError if a cell fails, and it is left as it was.

    environment: what differs from this process's.
    """
    content = nbformat.read(notebook, as_version=4)
    unstamped = {"record_timing": False, "store_widget_state": False, "timeout": None}
    try:
        NotebookClient(content, **unstamped).execute(
            env=quiet_environment() | environment, cwd=str(notebook.parent)
        )
    except CellExecutionError as error:
        raise InputError(
            f"{notebook.name} is left as it was, since it failed: {error.ename}: {error.evalue}."
        ) from None
    for output in [output for cell in content.cells for output in cell.get("outputs", [])]:
        output.get("data", {}).pop(WIDGET, None)  # lives in the kernel alone; its text is kept
    write_whole(notebook, nbformat.writes(content) + "\n")
