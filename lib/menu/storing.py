"""The stored notebooks, executed where they are, and the one that makes a shipped network."""

import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lib.errors import InputError, not_there
from lib.files import PRETRAINED, check_writable, shown_path, write_whole
from lib.menu.commands import run_all
from lib.running import NOTEBOOKS, parameters_of
from lib.running.notebook import quiet_environment

READER = NOTEBOOKS / "extra" / "make-a-reader.ipynb"
READERS = {  # what that notebook is given for the networks that come with the repository
    "strokes": {"per_class": 10_000, "valid_fraction": 0.02, "n_nonsense": 80_000, "epochs": 2},
    "handwriting": {
        "network": "wide-128",
        "per_class": 8_000,
        "valid_fraction": 0.05,
        "n_nonsense": 100_000,
        "epochs": 6,
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def store(notebook: Path, environment: dict[str, str]) -> None:
    """Executes a notebook where it is; InputError if a cell fails, and it is left as it was.

    environment: what differs from this process's.
    """
    content = nbformat.read(notebook, as_version=4)
    where = {"env": quiet_environment() | environment, "cwd": str(notebook.parent)}
    unstamped = {"record_timing": False, "store_widget_state": False, "timeout": None}
    try:
        NotebookClient(content, **unstamped).execute(**where)
    except CellExecutionError as error:
        raise InputError(
            f"{notebook.name} is left as it was, since it failed: {error.ename}: {error.evalue}."
        ) from None
    for output in [output for cell in content.cells for output in cell.get("outputs", [])]:
        output.get("data", {}).pop(WIDGET, None)  # lives in the kernel alone; its text is kept
    write_whole(notebook, nbformat.writes(content) + "\n")


def pretrain(network: str, archive: str, folder: Path = PRETRAINED) -> None:
    """Makes one of the networks that come with the repository anew, by their notebook."""
    if network not in READERS:
        raise InputError(f"--network {network}: choose {' or '.join(READERS)}.")
    if archive and not Path(archive).is_file():
        raise not_there(archive)
    check_writable(folder)
    parameters = READERS[network] | {"reader": network, "folder": str(folder)}
    parameters["archive"] = archive and str(Path(archive).resolve())
    how = {"cwd": READER.parent, "kernel_name": "python3", "stdout_file": sys.stdout}
    try:
        papermill.execute_notebook(READER, None, parameters, **how)  # the executed copy is not kept
    except (papermill.PapermillExecutionError, RuntimeError) as error:  # or a dead kernel
        said = getattr(error, "evalue", "") or f"{error}"
        raise InputError(f"{READER.name} failed: {said.splitlines()[-1]}") from None
    print(f"{network}: written, with its card, to {shown_path(folder)}")


def refresh() -> None:
    """Makes the results that come with the repository, then the stored notebooks, one by one.

    The former goes on where it was interrupted. The notebooks are run with their defaults; those
    that train do it in a folder that is removed.
    """
    run_all("reference", [])
    with tempfile.TemporaryDirectory() as scratch:
        for notebook in [*sorted(NOTEBOOKS.glob("*.ipynb")), READER]:
            print(f"{notebook.stem}: started")
            by_hand = parameters_of(notebook).get("outputs") == ("str", "outputs/by-hand")
            store(notebook, {"HANDWRITING_OUTPUTS": scratch} if by_hand else {})
