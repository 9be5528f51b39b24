"""What holds for every stored notebook, and that nbval would notice if it did not hold any longer."""

import base64
import re
import subprocess
import sys
from typing import Literal, get_args, get_origin

import nbformat
import pytest

from lib.files import ROOT
from lib.params import DataParameters, Profile, TrainingParameters, load_profile
from lib.running import plan as pipeline
from lib.training.learner import SAME_TEST

NOTEBOOKS = sorted(pipeline.NOTEBOOKS.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
SILENT = ("import ", "from ", "def ", "assert ", "for ", "if ", "#")


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def shows_something(cell):
    """True if the cell's last line is an expression, whose value a notebook displays."""
    last = cell.source.rstrip().splitlines()[-1]
    return not (
        last.startswith((" ", *SILENT, ")")) or re.match(r"[\w\[\]\"', .:]+ [-+*/]?= ", last)
    )


def test_the_notebooks_are_numbered_from_1():
    assert [path.stem[:2] for path in NOTEBOOKS] == [
        f"{number:02d}" for number in range(1, len(NOTEBOOKS) + 1)
    ]


@each_notebook
def test_a_notebook_has_one_cell_of_parameters(path):
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code_cells(path)) == 1


@each_notebook
def test_every_parameter_has_a_type_and_a_meaning(path):
    cell = next(cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", []))
    for line in cell.source.splitlines():
        assert re.fullmatch(
            r"\w+: (str|int|float|list|dict) = .+  # .+|\w+: (str|int|float|list|dict) = .+ # .+",
            line,
        ), line


ALL_FIELDS = Profile.model_fields | TrainingParameters.model_fields
TYPES = {int: "int", float: "float", str: "str", list: "list", dict: "dict"}


def type_name(annotation):
    """The type that a parameters cell writes for a field of the models: Literal["a", "b"] is a str there."""
    if get_origin(annotation) is Literal:
        annotation = type(get_args(annotation)[0])
    return TYPES[get_origin(annotation) or annotation]


@each_notebook
def test_the_parameters_are_those_of_the_models_with_their_types(path):
    for name, (written, _) in pipeline.parameters_of(path).items():
        assert name == "outputs" or written == type_name(ALL_FIELDS[name].annotation), name


@each_notebook
def test_the_defaults_are_those_of_the_small_profile(path):
    small = load_profile("small").model_dump(mode="json")
    small |= TrainingParameters().model_dump(include={"network", "seed", "schedule"}) | {
        "outputs": "outputs/small"
    }
    for name, (_, value) in pipeline.parameters_of(path).items():
        expected = (
            {key: small[name][key] for key in value} if name == "accuracy_bands" else small[name]
        )
        assert value == expected, name


def test_the_training_notebook_takes_every_setting_of_training_and_of_the_data():
    taken = set(pipeline.parameters_of(pipeline.NOTEBOOKS / "03-train.ipynb"))
    assert set(TrainingParameters.model_fields) | set(DataParameters.model_fields) <= taken


def test_the_finder_tests_the_rate_under_the_conditions_that_training_asks_for():
    assert set(SAME_TEST) <= set(
        pipeline.parameters_of(pipeline.NOTEBOOKS / "02-find-learning-rate.ipynb")
    )


def test_the_small_profile_is_the_default_one():
    assert load_profile("small").model_copy(update={"accuracy_bands": {}}) == Profile()


@each_notebook
def test_a_notebook_is_stored_executed_from_top_to_bottom(path):
    assert [cell.execution_count for cell in code_cells(path)] == list(
        range(1, len(code_cells(path)) + 1)
    )


@each_notebook
def test_every_cell_that_shows_something_has_its_output_stored(path):
    assert [
        cell.source for cell in code_cells(path) if shows_something(cell) and not cell.outputs
    ] == []


@each_notebook
def test_no_cell_is_left_out_of_the_check(path):
    assert not [
        cell
        for cell in code_cells(path)
        if "NBVAL_SKIP" in cell.source or "nbval-skip" in cell.metadata.get("tags", [])
    ]


@each_notebook
def test_a_cell_whose_output_is_not_compared_says_why(path):
    ignored = [cell.source for cell in code_cells(path) if "NBVAL_IGNORE_OUTPUT" in cell.source]
    assert all(re.match(r"# NBVAL_IGNORE_OUTPUT\n# \w+", source) for source in ignored)


@each_notebook
def test_no_cell_ends_in_a_semicolon_which_nbval_does_not_understand(path):
    assert not [cell.source for cell in code_cells(path) if cell.source.rstrip().endswith(";")]


@each_notebook
def test_cells_are_short_and_figures_small(path):
    for cell in code_cells(path):
        images = [
            output.data["image/png"]
            for output in cell.outputs
            if "image/png" in output.get("data", {})
        ]
        is_list = "parameters" in cell.metadata.get(
            "tags", []
        )  # a line per parameter, however many there are
        assert is_list or len(cell.source.splitlines()) <= 25
        assert all(len(base64.b64decode(image)) < 100_000 for image in images), cell.source


@each_notebook
def test_a_notebook_holds_no_path_of_the_machine_it_ran_on(path):
    text = path.read_text()
    assert (
        str(ROOT) not in text
        and "/tmp/" not in text
        and "papermill" not in nbformat.read(path, as_version=4).metadata
    )


def change_an_output(cell):
    text = cell.outputs[0].data["text/plain"]
    cell.outputs[0].data["text/plain"] = text.replace("28, 28", "28, 29", 1)


def delete_the_output(cell):
    cell.outputs.clear()


def move_the_band(cell):
    cell.source = cell.source.replace("0.30 < accuracy < 0.65", "0.90 < accuracy < 0.95")


def raise_an_exception(cell):
    cell.source = "raise RuntimeError('not today')\n" + cell.source


TAMPERED = {  # what is done to the cell of the first notebook that holds this text, and what nbval then says
    "str(images.shape)": (change_an_output, "mismatch 'text/plain'"),
    "counts.T": (delete_the_output, "Unexpected output fields"),
    "assert 0.30 < accuracy": (move_the_band, "AssertionError"),
    "validation is stratified": (raise_an_exception, "not today"),
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory):
    """nbval's report on a copy of the first notebook with four cells tampered with; and the numbers of those cells."""
    notebook, numbers = nbformat.read(NOTEBOOKS[0], as_version=4), {}
    for text, (tamper, _) in TAMPERED.items():
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        numbers[text] = next(number for number, cell in enumerate(cells) if text in cell.source)
        before = str(cells[numbers[text]])
        tamper(cells[numbers[text]])
        assert str(cells[numbers[text]]) != before
    path = tmp_path_factory.mktemp("tampered") / "copy.ipynb"
    nbformat.write(notebook, path)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest",
        "-q",
        "-rf",
        "--nbval",
        "--nbval-sanitize-with",
        str(ROOT / "tests/sanitize.cfg"),
        "-c",
        str(ROOT / "pyproject.toml"),
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True).stdout, numbers


def test_nbval_fails_the_cells_that_were_tampered_with_and_no_others(verdict):
    report, numbers = verdict
    failed = {int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", report, flags=re.M)}
    assert failed == set(numbers.values()), report


@pytest.mark.parametrize("text", TAMPERED, ids=lambda text: TAMPERED[text][0].__name__)
def test_nbval_says_what_is_wrong_with_a_tampered_cell(verdict, text):
    assert TAMPERED[text][1] in verdict[0]
