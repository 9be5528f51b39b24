"""Serves the notebook to draw in as a page, on this machine alone."""

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import zmq
from traitlets.config import Config
from voila.app import Voila

from lib.errors import InputError
from lib.files import ROOT
from lib.params import Profile
from lib.running.plan import INTERACTIVE, NOTEBOOKS, parameters_of

ADDRESS = "127.0.0.1"
NOT_ON_THE_PAGE, AT_ITS_END = (
    "notebook-only",
    "page-end",
)  # tags of cells: on the page, drawing comes before explanations
OURS_ALONE = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"  # widgets are loaded as blobs
# extensions of JupyterLab that the page loads, whatever else is installed
EXTENSIONS = [
    "@voila-dashboards/widgets-manager8",
    "@jupyter-widgets/jupyterlab-manager",
    "anywidget",
]


class Page(Voila):
    """Voila that says where it is as soon as it can be visited, and ends when it is interrupted."""

    say: Callable[[str], None]

    def launch_browser(self) -> None:
        """Called when the server listens: no browser is opened, since there may be none on this machine."""
        signal.signal(signal.SIGINT, self._handle_signal_stop)
        self.say(self.display_url)


def served_copy(folder: Path, values: dict) -> Path:
    """The notebook with these parameters, less what is not for the page, explanations last, in a folder that holds nothing else."""
    notebook = nbformat.read(NOTEBOOKS / f"{INTERACTIVE}.ipynb", as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if NOT_ON_THE_PAGE not in cell.metadata.get("tags", [])
    ]
    notebook.cells.sort(
        key=lambda cell: AT_ITS_END in cell.metadata.get("tags", [])
    )  # all else stays in its order
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.metadata["title"] = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    path = folder / f"{INTERACTIVE}.ipynb"
    nbformat.write(notebook, path)
    return path


def check_port(port: int) -> None:
    """InputError if nobody can listen there."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix"
        )  # as the server does: a port is free at once
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"Port {port} cannot be used ({error.strerror}); give another one with --port, from 1024 to 65535."
            ) from None


def serve(profile: Profile, name: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted. say: called with its address, which lets no one else in, when it can be visited.

    Raises InputError if the port cannot be used.
    """
    check_port(port)
    asked = parameters_of(NOTEBOOKS / f"{INTERACTIVE}.ipynb")
    values = profile.model_dump(mode="json") | {"outputs": f"outputs/{name}"}
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "lib" / "reading"), os.environ.get("JUPYTER_PATH")])
    )  # our template is found there
    with tempfile.TemporaryDirectory(prefix="draw-") as folder:
        notebook = served_copy(Path(folder), {key: values[key] for key in asked if key in values})
        Page.say = staticmethod(say)
        page = Page(
            config=settings(notebook, port), config_file_paths=[]
        )  # none of the user's: it might open the page to others
        page.initialize([])
        page.start()


def settings(notebook: Path, port: int) -> Config:
    """Of the server: this machine alone, a token, no other host's name, and no file but the page's own."""
    return Config(
        {
            "Voila": {
                "notebook_path": str(notebook),
                "ip": ADDRESS,
                "port": port,
                "port_retries": 0,
                "auto_token": True,
                "log_level": logging.ERROR,
                "connection_dir_root": str(notebook.parent),
                "tornado_settings": {
                    "allow_remote_access": False,
                    "ws_ping_timeout": 30_000,
                    "headers": {
                        "Content-Security-Policy": OURS_ALONE,
                        "Referrer-Policy": "no-referrer",
                    },
                },
            },
            "VoilaConfiguration": {
                "template": "page",
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "file_allowlist": [],
                "extension_allowlist": EXTENSIONS,
            },
            "KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"},
            "MappingKernelManager": {
                "cull_idle_timeout": 120,
                "cull_interval": 30,
            },  # seconds after its page is closed
        }
    )
