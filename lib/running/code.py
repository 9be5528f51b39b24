"""What the code of a step is: the modules of lib that it imports, and digests of what they do."""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lib.files import ROOT, digest_of_code, without_docstrings

LEFT_OUT = ("lib/data/", "lib/running/", "lib/networks.py")
SOURCE = ROOT / "lib" / "networks.py"
PREPARED = {"Preparation", "PreparedNetwork"}  # what every network stands in


def modules(source: Path) -> list[str]:
    """The files of lib that a notebook imports, and those they import, in alphabetical order: lib/data.py, ..."""
    found, waiting = set(), [source]
    while waiting:
        path = waiting.pop()
        imported = {
            name for name in _imports(path, state(path)) - found if not name.startswith(LEFT_OUT)
        }
        found |= imported
        waiting += [ROOT / name for name in imported]
    return sorted(found)


def state(path: Path) -> tuple[int, int]:
    """Size and time of change, by which a file is known again."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@cache
def _imports(path: Path, _seen) -> set[str]:
    names = {"lib"} if path.suffix == ".py" else set()
    for tree in _trees(path):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (
        f"{name.replace('.', '/')}{end}"
        for name in names
        if name.split(".")[0] == "lib"
        for end in (".py", "/__init__.py")
    )
    return {file for file in files if (ROOT / file).is_file()}


def _trees(path: Path) -> Iterator[ast.Module]:
    """A module's, or each code cell's, syntax tree; a cell that is not plain Python has an empty one."""
    for source in [path.read_text(encoding="utf-8")] if path.suffix == ".py" else code_cells(path):
        try:
            yield ast.parse(source)
        except SyntaxError:
            yield ast.Module([], [])


def code_digest(path: Path) -> str:
    """MD5 of what a module does."""
    return _code_digest(path, state(path))


@cache
def _code_digest(path: Path, _seen) -> str:
    return digest_of_code([path.read_text(encoding="utf-8")])


def notebook_digest(path: Path) -> str:
    """MD5 of what a notebook's code cells do, its parameters aside."""
    return _notebook_digest(path, state(path))


@cache
def _notebook_digest(path: Path, _seen) -> str:
    return digest_of_code(code_cells(path))


def code_cells(notebook: Path) -> list[str]:
    """The code of a notebook, cell by cell, less its parameters, which are compared by their values."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    return ["".join(cell["source"]) for cell in code]


def network_digest(network: str) -> str:
    """MD5 of a network's entry in NETWORKS and of all in lib/networks.py that it is made of."""
    return _network_digest(network, state(SOURCE))


@cache
def _network_digest(network: str, _seen) -> str:
    defined = {}
    for node in without_docstrings(ast.parse(SOURCE.read_text(encoding="utf-8"))).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets}
    table = defined.pop("NETWORKS").value
    entries = {key.value: value for key, value in zip(table.keys, table.values)}
    found, waiting = {}, {"": entries[network]} | {name: defined[name] for name in PREPARED}
    while waiting:
        found |= waiting
        names = {node.id for tree in waiting.values() for node in ast.walk(tree) if _is_name(node)}
        waiting = {name: defined[name] for name in names if name in defined and name not in found}
    said = "".join(ast.dump(found[name]) for name in sorted(found))
    return hashlib.md5(said.encode()).hexdigest()


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)
