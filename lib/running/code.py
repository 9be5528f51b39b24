"""What the code of a step is: the modules of lib that it imports, and digests of what they do."""

import ast
import hashlib
import json
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from lib.files import ROOT, digest_of_code, without_docstrings

# see lib/running/staleness.py
LEFT_OUT = ("lib/data/", "lib/running/", "lib/networks.py", "lib/params.py", "lib/errors.py")
PREPARED = {"Preparation", "PreparedNetwork"}  # what every network stands in


def until_changed(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Remembers what a function of a file, or of a folder, gives, until that changes."""
    known = cache(lambda path, *state: function(path))

    @wraps(function)
    def remembered(path: Path):
        state = path.stat()
        return known(path, state.st_size, state.st_mtime_ns)

    return remembered


def modules(notebook: Path, root: Path = ROOT) -> list[str]:
    """The files of lib that a notebook imports, and those that these import: lib/runs.py, ..."""
    found, waiting = set(), [notebook]
    while waiting:
        names = imports(waiting.pop()) - found
        files = {name for name in names if not name.startswith(LEFT_OUT)}
        files = {name for name in files if (root / name).is_file()}
        found |= files
        waiting += [root / name for name in files]
    return sorted(found)


@until_changed
def imports(path: Path) -> set[str]:
    """Every file of lib that what a module or notebook imports may be."""
    names = {"lib"} if path.suffix == ".py" else set()
    for source in sources(path):
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except SyntaxError:  # IPython's own, such as %timeit
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = [name.replace(".", "/") for name in names if name.split(".")[0] == "lib"]
    return {path + end for path in paths for end in (".py", "/__init__.py")}


@until_changed
def code_digest(path: Path) -> str:
    """MD5 of what a module does, or a notebook's code cells less their parameters."""
    return digest_of_code(sources(path))


def sources(path: Path) -> list[str]:
    """A module's code, or a notebook's cells of it less its parameters, which count by value."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [text]
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in code if not is_parameters(cell)]


def is_parameters(cell: dict) -> bool:
    """Whether it is the cell that papermill overrides."""
    return "parameters" in cell["metadata"].get("tags", [])


@until_changed
def network_digests(source: Path) -> dict[str, str]:
    """For each entry of NETWORKS, MD5 of that and of all in lib/networks.py that it is made of."""
    defined = {}
    for node in without_docstrings(ast.parse(source.read_text(encoding="utf-8"))).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets}
    table = defined.pop("NETWORKS").value
    return {key.value: _digest(value, defined) for key, value in zip(table.keys, table.values)}


def _digest(entry: ast.AST, defined: dict[str, ast.AST]) -> str:
    found, waiting = {}, {"": entry} | {name: defined[name] for name in PREPARED}
    while waiting:
        found |= waiting
        nodes = [node for tree in waiting.values() for node in ast.walk(tree)]
        names = {node.id for node in nodes if isinstance(node, ast.Name)} - found.keys()
        waiting = {name: defined[name] for name in names if name in defined}
    said = "".join(ast.dump(found[name]) for name in sorted(found))
    return hashlib.md5(said.encode()).hexdigest()
