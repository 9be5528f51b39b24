"""What holds for every stored notebook, and that nbval would notice if it did not any longer."""

import ast
import base64
import re
import statistics
import subprocess
import sys
from typing import Literal, get_args, get_origin

import nbformat
import pytest

from lib.files import ROOT
from lib.params import DataParameters, Profile, RunParameters, TrainingParameters, load_profile
from lib.running import NOTEBOOKS, REPORT_NOTEBOOK
from lib.running.plan import EXPLORE, FIND, TRAIN, parameters_of

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ALL = [*PATHS, *sorted(NOTEBOOKS.glob("extra/*.ipynb"))]
MADE = [NOTEBOOKS / f"{name}.ipynb" for name in (EXPLORE, FIND, TRAIN)]
CHAPTERS = [path for path in PATHS if "studies" in parameters_of(path)]
EXTRAS = {"outputs": "outputs/by-hand", "run": ""}  # of those that make results
OWN = {"outputs", "archive", "folder", "studies"}  # all that a chapter is given
each_notebook = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
each_maker = pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
TYPES = {int: "int", float: "float", str: "str", list: "list", dict: "dict"}
MEANT = r"\w+: (str|int|float|list|dict) = \S.* # \S.*"
SILENT = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Assert)
SILENT += (ast.FunctionDef, ast.For, ast.If, ast.With)


def cells_of(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tags_of(cell):
    return cell.metadata.get("tags", [])


def written(path):
    """The code cells, less the parameters."""
    return [cell for cell in cells_of(path) if "parameters" not in tags_of(cell)]


def shows_something(cell):
    """True if the cell's last line is an expression that has a value, which a notebook displays."""
    try:
        last = ast.parse(cell.source).body[-1]
    except SyntaxError:  # IPython's own, such as ??
        return True
    return not isinstance(last, SILENT)


def test_the_notebooks_are_numbered_from_1():
    numbers = [path.stem[:2] for path in PATHS]
    assert numbers == [f"{number:02d}" for number in range(1, len(PATHS) + 1)]
    assert PATHS[-1].stem == REPORT_NOTEBOOK


# parameters


@each_notebook
def test_a_notebook_has_one_cell_of_parameters_with_types_and_meanings(path):
    (cell,) = [cell for cell in cells_of(path) if "parameters" in tags_of(cell)]
    assert [line for line in cell.source.splitlines() if not re.fullmatch(MEANT, line)] == []


def type_name(annotation):
    """The type that a parameters cell writes for a field: Literal["a", "b"] is a str there."""
    if get_origin(annotation) is Literal:
        annotation = type(get_args(annotation)[0])
    return TYPES[get_origin(annotation) or annotation]


@each_maker
def test_the_parameters_of_what_makes_results_are_those_of_the_models(path):
    fields = Profile.model_fields | TrainingParameters.model_fields
    defaults = load_profile("small").model_dump() | TrainingParameters().model_dump() | EXTRAS
    for name, (kind, value) in parameters_of(path).items():
        assert name in EXTRAS or kind == type_name(fields[name].annotation), name
        band = isinstance(value, dict)  # that of the one network
        assert value == ({key: defaults[name][key] for key in value} if band else defaults[name])


def test_the_small_profile_is_the_default_one():
    small = load_profile("small").model_dump() | {"accuracy_bands": {}}
    assert small == Profile().model_dump()


def test_training_takes_all_that_a_run_is_given():
    taken = set(parameters_of(NOTEBOOKS / f"{TRAIN}.ipynb"))
    assert taken == {*RunParameters.model_fields, *EXTRAS, "accuracy_bands"}


@pytest.mark.parametrize("name", [EXPLORE, FIND])
def test_what_is_explored_and_tested_is_what_is_trained_on(name):
    assert set(DataParameters.model_fields) <= set(parameters_of(NOTEBOOKS / f"{name}.ipynb"))


@each_chapter
def test_a_chapter_is_given_whose_results_and_which_studies_and_no_more(path):
    assert set(parameters_of(path)) - {"explorer"} == OWN
    assert parameters_of(path)["outputs"] == ("str", "outputs/reference")


def test_every_notebook_but_the_makers_and_the_canvas_is_a_chapter():
    others = {path.stem for path in PATHS} - {path.stem for path in [*MADE, *CHAPTERS]}
    assert others == {"10-try-it"}


# cells


@each_notebook
def test_cells_are_short(path):
    lengths = [len(cell.source.splitlines()) for cell in written(path)]
    assert max(lengths) <= 20 and statistics.median(lengths) <= 4


@each_notebook
def test_no_line_of_code_is_very_long(path):
    lines = [line for cell in cells_of(path) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > 100] == []


@each_notebook
def test_there_is_a_cell_of_prose_for_each_of_code(path):
    assert len(cells_of(path, "markdown")) >= len(cells_of(path))


@each_notebook
def test_no_cell_is_left_out_of_the_check_or_marked_in_its_code(path):
    assert not [cell.source for cell in cells_of(path) if "NBVAL_" in cell.source]
    assert not [cell.source for cell in cells_of(path) if "nbval-skip" in tags_of(cell)]


@each_notebook
def test_no_cell_ends_in_a_semicolon_which_nbval_does_not_understand(path):
    assert not [cell.source for cell in cells_of(path) if cell.source.rstrip().endswith(";")]


# as it is stored


@each_notebook
def test_a_notebook_is_stored_executed_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in cells_of(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_every_cell_that_shows_something_has_its_output_stored(path):
    silent = [cell.source for cell in cells_of(path) if shows_something(cell) and not cell.outputs]
    assert len(silent) <= 4  # a figure that this profile has nothing for


@each_notebook
def test_figures_and_notebooks_are_small(path):
    outputs = [output for cell in cells_of(path) for output in cell.outputs]
    images = [
        output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    assert [len(image) for image in images if len(base64.b64decode(image)) > 110_000] == []
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_a_notebook_holds_no_path_of_the_machine_it_ran_on(path):
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and "/tmp/" not in text
    assert not {"papermill", "widgets"} & nbformat.read(path, as_version=4).metadata.keys()


# what nbval notices


def change_an_output(cell):
    (text,) = [output.data["text/plain"] for output in cell.outputs]
    cell.outputs[0].data["text/plain"] = text.replace("28, 28", "28, 29", 1)


def delete_the_output(cell):
    cell.outputs.clear()


def move_the_band(cell):
    cell.source = cell.source.replace("> 0.3", "> 0.9")


def raise_an_exception(cell):
    cell.source = "raise RuntimeError('not today')\n" + cell.source


TAMPERED = {  # a text in a cell of 01, what is done to that cell, and what nbval then says
    "str(images.shape)": (change_an_output, "mismatch 'text/plain'"),
    "counts.describe()": (delete_the_output, "Unexpected output fields"),
    "] > 0.3, right": (move_the_band, "AssertionError"),
    "validation is stratified": (raise_an_exception, "not today"),
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    """nbval's report on a copy of 01 with four cells tampered with, and those cells' numbers."""
    notebook, numbers = nbformat.read(MADE[0], as_version=4), {}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for text, (tamper, _) in TAMPERED.items():
        numbers[text] = next(number for number, cell in enumerate(cells) if text in cell.source)
        before = str(cells[numbers[text]])
        tamper(cells[numbers[text]])
        assert str(cells[numbers[text]]) != before
    path = tmp_path_factory.mktemp("tampered") / "copy.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-rf", "--nbval"]
    command += ["--nbval-sanitize-with", ROOT / "tests/sanitize.cfg"]
    command += ["-c", ROOT / "pyproject.toml", path]
    return subprocess.run(command, capture_output=True, text=True).stdout, numbers


def test_nbval_fails_the_cells_that_were_tampered_with_and_no_others(verdict):
    report, numbers = verdict
    failed = {int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", report, flags=re.M)}
    assert failed == set(numbers.values()), report


@pytest.mark.parametrize("text", TAMPERED, ids=lambda text: TAMPERED[text][0].__name__)
def test_nbval_says_what_is_wrong_with_a_tampered_cell(verdict, text):
    assert TAMPERED[text][1] in verdict[0]
