"""Serves the notebook to draw in as a page, on this machine alone."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import yaml
import zmq
from traitlets.config import Config
from voila.app import Voila

from lib.errors import InputError
from lib.files import ROOT

HERE = Path(__file__).parent
NOTEBOOK = ROOT / "notebooks" / "10-try-it.ipynb"
NOT_ON_THE_PAGE = "notebook-only"  # tag of a cell


class Page(Voila):
    """Voila that says where it is as soon as it can be visited, and ends when it is interrupted."""

    say: Callable[[str], None]

    def launch_browser(self) -> None:
        """Called when the server listens; opens no browser, since there may be none."""
        signal.signal(signal.SIGINT, self._handle_signal_stop)
        self.say(self.display_url)


def serve(values: dict, port: int, say: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted; InputError if the port cannot be used.

    values: the notebook's parameters. say: gets its address, which lets nobody else in.
    """
    config = Config(yaml.safe_load((HERE / "page.yml").read_text()))
    check_port(config.Voila.ip, port)
    os.environ["JUPYTER_PATH"] = f"{HERE}{os.pathsep}{os.environ.get('JUPYTER_PATH', '')}"
    Page.say = staticmethod(say)
    with tempfile.TemporaryDirectory(prefix="draw-") as folder:
        notebook = str(served_copy(Path(folder), values))
        config.Voila.update(notebook_path=notebook, port=port, connection_dir_root=folder)
        config.KernelManager.transport_encryption = "auto" if zmq.has("curve") else "disabled"
        page = Page(config=config, config_file_paths=[])  # the user's might open it to others
        page.initialize([])
        page.start()


def served_copy(folder: Path, values: dict) -> Path:
    """The notebook with these parameters, less what is for its readers, in a folder of its own."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [(cell, cell.metadata.get("tags", [])) for cell in notebook.cells]
    notebook.cells = [cell for cell, tags in cells if NOT_ON_THE_PAGE not in tags]
    for cell, tags in cells:
        if "parameters" in tags:
            cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.metadata["title"] = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    path = folder / NOTEBOOK.name
    nbformat.write(notebook, path)
    return path


def check_port(address: str, port: int) -> None:
    """InputError if nobody can listen there."""
    with socket.socket() as probe:
        # as the server does: a port is free at once
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InputError(
                f"Port {port} cannot be used ({error.strerror}); "
                "give another one with --port, from 1024 to 65535."
            ) from None
