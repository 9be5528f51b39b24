"""Whatever goes in, an answer or one sentence comes out, nothing hangs, nothing is half-written."""

import gzip
import json
import shutil
import struct
import zipfile
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

import archives
import hostile
import numpy as np
import plans
import pytest
from hostile import arrays, damaged, kept, one_sentence, tried
from hypothesis import example, given
from hypothesis import strategies as st

from lib import runs
from lib.data import emnist, load_data
from lib.data.cleanup import convert
from lib.errors import InputError
from lib.files import HISTORY, METRICS, MODEL, PREDICTIONS, RATES, RESULTS, ROOT
from lib.menu import answers, commands, tables
from lib.params import load_profile, read_profile
from lib.reading import Recogniser
from lib.reading.page import found_groups, load_networks
from lib.running import staleness

pytestmark = pytest.mark.slow
ODD = [b"null", b"[]", b"{}", b"", b"0", b'"', b"[" * 5000, b'{"test_accuracy": Infinity}']
ODD += [b'{"seed": "x", "test_accuracy": "y"}', b'[{"studies": 3}]', b'{"groups": 1}', b"\xff\xfe"]
IMAGES, CORPUS = hostile.images(), sorted((Path(__file__).parent / "corpus").iterdir())
REFERENCE, RUN = ROOT / "outputs" / "reference", "custom-seed0"


@contextmanager
def fine(kind: str, content: bytes = b""):
    """An InputError of one sentence is fine; of anything else the content is kept, to repeat it."""
    try:
        try:
            yield
        except InputError as error:
            one_sentence(error)
    except Exception:
        kept(f"{kind}-{md5(content).hexdigest()[:8]}", content)
        raise


def read(picture, kind: str = "image", content: bytes = b"") -> None:
    with fine(kind, content):
        image = convert(picture)
        assert image.shape == (28, 28) and image.dtype == np.uint8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_DATA", str(home / "data"))
        yield home


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_what_once_broke_something_does_not_any_longer(file, data):
    if file.suffix == ".zip":
        with fine("archive"):
            emnist.load("digits", file)
    else:
        read(file)


@pytest.mark.parametrize("name", IMAGES)
@tried(50)
@given(st.data())
def test_a_damaged_image(name, folder, data):
    content = data.draw(damaged(IMAGES[name]))
    file = folder / "image"
    file.write_bytes(content)
    read(file, name.replace(" ", "-").replace(";", ""), content)


@tried(100)
@given(st.binary(max_size=400))
def test_a_file_of_anything(folder, content):
    (folder / "anything").write_bytes(content)
    read(folder / "anything", "anything", content)


@tried(1000)
@given(arrays())
def test_an_array_of_anything(array):
    read(array)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_an_array_as_large_as_may_be_takes_little_memory(kind):
    hostile.COUNTS["large arrays"] += 1
    paper = np.ones((10_000, 10_000), kind)
    with pytest.raises(InputError, match="holds no ink"):
        convert(paper)


MEMBERS = archives.members("digits")


@tried(150)
@given(st.sampled_from(sorted(MEMBERS)), st.data())
def test_a_damaged_member_of_an_archive(folder, name, data):
    content = data.draw(damaged(MEMBERS[name]))
    with fine("member", content):
        emnist.read_split(written(folder / "digits.zip", MEMBERS | {name: content}), "digits")


@tried(60)
@given(st.data())
def test_a_damaged_archive(folder, data):
    file = written(folder / "whole.zip", MEMBERS)
    content = data.draw(damaged(file.read_bytes()))
    (folder / "damaged.zip").write_bytes(content)
    with fine("archive", content):
        emnist.read_split(folder / "damaged.zip", "digits")


@tried(100)
@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.sampled_from(sorted(MEMBERS))
)
def test_a_header_that_promises_anything(folder, numbers, name):
    content = struct.pack(f">BBBB{len(numbers)}I", 0, 0, 8, len(numbers), *numbers) + bytes(999)
    with fine("header", content):
        emnist.read_split(written(folder / "header.zip", MEMBERS | {name: content}), "digits")


def written(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            packed = gzip.compress(content, 1) if name.endswith(".gz") else content
            archive.writestr(f"gzip/{name}", packed)
    return file


KEYS = [*load_profile("small").model_dump(), "study", "", "__class__", "_name", "outputs"]
VALUES = st.one_of(
    st.text(max_size=60),
    st.integers().map(str),
    st.floats().map(str),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists).map(
        lambda value: json.dumps(value)
    ),
    st.sampled_from(
        ["~", "[", "{", "*a", "&a [*a]", "!!int x", "2020-13-45", "1e999", ".nan", "?"]
    ),
)


@tried(500)
@given(st.sampled_from(KEYS) | st.text(max_size=20), VALUES)
@example("networks", '["\\uD800"]')
def test_a_parameter_of_any_value(key, value):
    with fine("parameter", f"{key}={value}".encode(errors="replace")):
        load_profile("small", [f"{key}={value}"])


@tried(200)
@given(st.binary(max_size=200) | damaged((ROOT / "params" / "emnist.yml").read_bytes()))
def test_a_profile_of_anything(folder, content):
    (folder / "odd.yml").write_bytes(content)
    with fine("profile", content):
        read_profile("odd", folder)
        load_profile("odd", [], folder)


@tried(200)
@given(st.text(max_size=20))
def test_what_may_be_there_is_anything(text):
    with fine("among", text.encode(errors="replace")):
        answers.read_prior(text)
    with fine("coverage", text.encode(errors="replace")):
        answers.read_coverage(text)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9
)


@tried(40)
@given(st.dictionaries(NAMES, st.lists(st.sampled_from(sorted(IMAGES)), max_size=5), max_size=4))
def test_a_folder_of_anything(folder, classes):
    home = folder / "own"
    shutil.rmtree(home, ignore_errors=True)
    for name, kinds in classes.items():
        if name.strip(".") == "":
            continue
        (home / name).mkdir(parents=True)
        for number, kind in enumerate(kinds):
            (home / name / f"{number}.png").write_bytes(IMAGES[kind])
    with fine("folder", repr(classes).encode()):
        load_data(source="folder", folder=str(home))


TABLES = st.text(st.sampled_from('file,label\n\r"A0;.png/ \ufeff'), max_size=80)


@tried(100)
@given(TABLES)
def test_a_table_of_labels_of_anything(folder, text):
    home = folder / "listed"
    home.mkdir(exist_ok=True)
    (home / "labels.csv").write_text(f"file,label\n{text}", encoding="utf-8")
    with fine("labels", text.encode()):
        load_data(source="folder", folder=str(home))


# records and results


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Tiny notebooks that seem to have been run, and their steps."""
    home = tmp_path_factory.mktemp("ran")
    plans.write_all(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_OUTPUTS", str(home))
        steps = plans.planned(home)
        for step in steps:
            plans.pretend(step)
        yield steps


@tried(150)
@given(st.data())
def test_a_damaged_record_is_no_record(ran, data):
    step = data.draw(st.sampled_from(ran))
    path = staleness.record_path(step)
    whole = path.read_bytes()
    content = data.draw(st.sampled_from(ODD) | damaged(whole) | changed(whole))
    path.write_bytes(content)
    try:
        with fine("record", content):
            tables.status_table(ran, False, "small")
            staleness.begin(step, "again", staleness.dependencies(step))
            staleness.finish(step, "done", 1.0)
            assert staleness.read_record(step)["state"] == "done"
    finally:
        path.write_bytes(whole)


@st.composite
def changed(draw, whole: bytes) -> bytes:
    """JSON with one value, at whatever depth, replaced by another or left out."""
    content = place = json.loads(whole)
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key]) or draw(st.booleans()):
            break
        place = place[key]
    if draw(st.booleans()):
        del place[key]
    else:
        place[key] = draw(
            st.none() | st.integers() | st.text(max_size=9) | st.just([]) | st.just({})
        )
    return json.dumps(content).encode()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two runs of the reference, and what belongs to them."""
    home = tmp_path_factory.mktemp("results")
    for name in (RUN, "lenet-seed0"):
        shutil.copytree(REFERENCE / name, home / "outputs" / "small" / name)
    for name in (RESULTS, RATES, "findings"):
        copy = shutil.copytree if (REFERENCE / name).is_dir() else shutil.copy
        copy(REFERENCE / name, home / "outputs" / "small" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANDWRITING_OUTPUTS", str(home))
        patch.setenv("HANDWRITING_DATA", str(home / "data"))
        yield home / "outputs" / "small"


USES = {
    METRICS: lambda home: commands.compare_runs(f"small/{RUN}", "small/lenet-seed0"),
    MODEL: lambda home: Recogniser.load(home / RUN / MODEL),
    PREDICTIONS: lambda home: [
        runs.read_predictions(home / RUN, part) for part in ("valid", "test")
    ],
    HISTORY: lambda home: runs.read_history(home / RUN),
    RESULTS: lambda home: runs.load_results("outputs/small"),
    "findings/05-confusions.json": found_groups,
}


@pytest.mark.parametrize("name", USES)
@tried(60)
@given(st.data())
def test_a_damaged_result(name, results, data):
    file = results / name if (results / name).exists() else results / RUN / name
    whole = file.read_bytes()
    more = changed(whole) if name.endswith(".json") else damaged(whole)
    content = data.draw(st.sampled_from(ODD) | damaged(whole) | more)
    file.write_bytes(content)
    try:
        with fine(name.replace("/", "-"), content):
            USES[name](results)
        with fine(f"page-{name}".replace("/", "-"), content):
            load_networks(results)
    finally:
        file.write_bytes(whole)
