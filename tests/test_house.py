"""The rules of the house: which room may import which, and how much there may be of it."""

import ast
import re

import pytest

from lib.files import ROOT

LIB = ROOT / "lib"
FILES = sorted(LIB.rglob("*.py"))
ROOMS = ("data", "training", "analysis", "reading", "running", "report", "menu")
MAY = {  # the rooms that a room may import, beside itself; shared files import none
    "": set(),
    "data": set(),
    "training": {"data"},
    "analysis": {"data"},
    "reading": {"data", "analysis"},
    "running": set(),
    "report": {"data", "analysis", "reading"},
    "menu": set(ROOMS),
}
SCIENCE = {"lib.networks", "lib.models", "lib.runs", "lib.plots"}


def name_of(path):
    """The name by which a file of lib is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imports(tree):
    """The modules of lib that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else node.module


IMPORTS = {name: set(imports(tree)) for name, tree in MODULES.items()}


def room_of(module):
    """The room that a module lies in; "" for the shared files."""
    second = module.split(".")[1] if "." in module else ""
    return second if second in ROOMS else ""


def test_a_room_imports_only_those_that_it_may():
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(other) not in {"", room_of(module), *MAY[room_of(module)]}
    ]
    assert wrong == []


def test_running_knows_no_science():
    known = {name: IMPORTS[name] & SCIENCE for name in IMPORTS if room_of(name) == "running"}
    assert {name: others for name, others in known.items() if others} == {}


def test_only_the_report_draws():
    """Beside the notebooks: seaborn takes seconds to import."""
    drawing = {room_of(name) for name, others in IMPORTS.items() if "lib.plots" in others}
    assert drawing <= {"report"}


def test_no_modules_import_each_other_in_a_circle():
    left = dict(IMPORTS)
    while free := [name for name, others in left.items() if not others & left.keys() - {name}]:
        left = {name: others for name, others in left.items() if name not in free}
    assert left == {}


def test_every_folder_of_lib_is_a_room_with_a_door():
    doors = {path.parent.name for path in FILES if path.name == "__init__.py"}
    assert doors == {*ROOMS, "lib"} and {room_of(name) for name in MODULES} == {*ROOMS, ""}


def n_lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_lib_does_not_grow():
    assert sum(map(n_lines, FILES)) <= 6814  # on the way to 5,500


def test_no_file_of_lib_has_more_than_250_lines():
    assert {path.name: n_lines(path) for path in FILES if n_lines(path) > 250} == {}


def inner_imports():
    """Each import inside a function: its place, and its lines with those it belongs to."""
    for path in FILES:
        lines = ["", *path.read_text(encoding="utf-8").splitlines()]
        functions = [
            node
            for node in ast.walk(MODULES[name_of(path)])
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        inner = [node for function in functions for node in ast.walk(function)]
        for node in {node for node in inner if isinstance(node, (ast.Import, ast.ImportFrom))}:
            first = node.lineno
            while lines[first - 1].lstrip().startswith(("import ", "from ", "#")):
                first -= 1
            block = "\n".join(lines[first : node.end_lineno + 1])
            yield f"{path.relative_to(ROOT)}:{node.lineno}", block


def test_imports_inside_functions_are_few_and_say_why():
    found = dict(inner_imports())
    assert len(found) <= 25 and [place for place, block in found.items() if "#" not in block] == []


@pytest.mark.parametrize("folder", ["lib", "tests"])
def test_no_line_is_longer_than_100_characters(folder):
    paths = [*(ROOT / folder).rglob("*.py"), ROOT / "tasks.py"]
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    assert long == []


def test_the_repository_names_no_folder_of_one_machine():
    places = re.compile("/(home|root|work|Users)/")
    named = [path.name for path in FILES if places.search(path.read_text(encoding="utf-8"))]
    assert named == []
