import errno
import shutil
import subprocess
import sys

import numpy as np
import pytest
from archives import write_archive

from lib.data import cache, emnist, strokes
from lib.data.cache import cached_arrays, save_blocks
from lib.data.load import CharacterData, capped, load_data, stratified
from lib.errors import InputError
from lib.files import ROOT
from lib.params import DataParameters

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def quick(monkeypatch):
    """Replaces the generator by one that draws noise, and counts its calls."""
    calls = []

    def generate(per_class, seed=0, part="train", progress=None):
        calls.append(part)
        rng = np.random.default_rng([seed, part == "test"])
        labels = rng.permutation(np.repeat(np.arange(62), per_class))
        return rng.integers(0, 256, (len(labels), 28, 28), np.uint8), labels

    monkeypatch.setattr(strokes, "generate", generate)
    return calls


def as_set(images):
    return {image.tobytes() for image in images}


def test_generated_strokes_have_the_shapes_and_types_promised():
    found = load_data(per_class=10, test_per_class=1)
    assert found.train_images.shape == (558, 28, 28) and found.train_images.dtype == np.uint8
    assert found.valid_labels.shape == (62,) and found.valid_labels.dtype == np.int64
    assert found.test_images.shape == (62, 28, 28) and len(found.class_names) == 62
    assert (found.dataset, found.split, found.note) == ("generated strokes", "byclass", "")


def test_the_three_parts_share_no_image(quick):
    found = load_data(per_class=20)
    train, valid, test = (
        as_set(found.train_images),
        as_set(found.valid_images),
        as_set(found.test_images),
    )
    assert not train & valid and not train & test and not valid & test


def test_train_and_validation_make_up_the_sources_train_part(quick):
    found = load_data(per_class=20)
    images, _ = strokes.generate(20)
    assert as_set(found.train_images) | as_set(found.valid_images) == as_set(images)


def test_every_class_gives_the_same_share_to_validation(quick):
    found = load_data(per_class=20, valid_fraction=0.25)
    assert np.bincount(found.valid_labels).tolist() == [5] * 62


def test_images_keep_their_labels_and_order(quick):
    found = load_data(per_class=10)
    images, labels = strokes.generate(10)
    kept = np.array([image.tobytes() in as_set(found.train_images) for image in images])
    assert np.array_equal(images[kept], found.train_images) and np.array_equal(
        labels[kept], found.train_labels
    )
    assert np.array_equal(images[~kept], found.valid_images) and np.array_equal(
        labels[~kept], found.valid_labels
    )


def test_another_seed_divides_otherwise():
    labels = np.repeat(np.arange(5), 40)
    assert np.array_equal(stratified(labels, 0.2, 1), stratified(labels, 0.2, 1))
    assert not np.array_equal(stratified(labels, 0.2, 1), stratified(labels, 0.2, 2))


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_a_small_class_gives_one_image_and_keeps_one(fraction):
    chosen = stratified(np.array([0, 0, 1, 1, 2]), fraction, 0)
    assert [chosen[:2].sum(), chosen[2:4].sum(), chosen[4]] == [1, 1, False]


def test_the_cap_is_the_mean_class_size():
    labels = np.repeat([0, 1, 2], [100, 10, 40])
    rows = capped(labels, 3, seed=0)
    assert np.bincount(labels[rows]).tolist() == [50, 10, 40]
    assert np.array_equal(rows, np.unique(rows))


@pytest.fixture
def unbalanced(tmp_path):
    """An archive of `bymerge`: six images of most classes, twelve of those that count two cases as one."""
    return write_archive(tmp_path / "small.zip", "bymerge")


def test_the_cap_applies_to_train_and_validation_only(unbalanced):
    everything = emnist.load("bymerge", unbalanced)
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced), cap="mean")
    sizes = np.bincount(found.train_labels) + np.bincount(found.valid_labels)
    assert np.bincount(everything.train_labels).max() == 12 and sizes.max() == 372 // 47
    assert np.array_equal(found.test_images, everything.test_images)
    assert np.array_equal(found.test_labels, everything.test_labels)


def test_without_a_cap_every_image_is_used(unbalanced):
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced))
    assert len(found.train_labels) + len(found.valid_labels) == 372


def test_another_archive_is_not_called_emnist(unbalanced):
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced))
    assert found.dataset == "archive small.zip" and found.split == "bymerge"
    assert (
        found.note
        == f"Archive small.zip, md5 {found.checksum}, is not the official EMNIST archive."
    )


def test_the_official_archive_is_called_emnist(unbalanced, monkeypatch):
    monkeypatch.setattr(emnist, "OFFICIAL_MD5", cache.file_md5(unbalanced))
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced))
    assert (found.dataset, found.note) == ("EMNIST", "")


def test_strokes_follow_the_split(quick):
    found = load_data(per_class=10, split="letters")
    assert "".join(found.class_names) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert len(found.train_labels) + len(found.valid_labels) == 520 and set(
        found.test_labels
    ) == set(range(26))


def test_the_second_call_generates_nothing(quick):
    first = load_data(per_class=10)
    again = load_data(per_class=10)
    assert quick == ["train", "test"] and first.checksum == again.checksum
    assert np.array_equal(first.train_images, again.train_images)


def test_a_changed_generator_makes_new_characters(quick, tmp_path, monkeypatch):
    load_data(per_class=10)
    shutil.copytree(ROOT / "lib", tmp_path / "lib")
    (tmp_path / "lib" / "data" / "strokes.py").write_text("# another generator")
    monkeypatch.setattr("lib.data.ROOT", tmp_path)
    load_data(per_class=10)
    assert quick == ["train", "test"] * 2


def test_arrays_cannot_be_changed_by_mistake(quick):
    with pytest.raises(ValueError, match="read-only"):
        load_data(per_class=10).train_images[0] = 0


def test_a_folder_without_a_test_part_gives_a_fifth_of_each_class(quick, tmp_path):
    from PIL import Image

    for name in "17":
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((60, 60), 255, np.uint8)
            pixels[10:50, 20 + i : 25 + i] = 0
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.png")
    found = load_data(source="folder", folder=str(tmp_path / "own"))
    assert [
        np.bincount(part).tolist()
        for part in (found.test_labels, found.valid_labels, found.train_labels)
    ] == [[2, 2], [1, 1], [7, 7]]
    assert (found.dataset, found.split, found.class_names) == ("folder own", "", ["1", "7"])


def test_overrides_come_on_top_of_parameters(quick):
    found = load_data(DataParameters(per_class=10, test_per_class=3), test_per_class=2)
    assert isinstance(found, CharacterData)
    assert (
        len(found.test_labels) == 124 and len(found.train_labels) + len(found.valid_labels) == 620
    )


@pytest.mark.parametrize(
    "wrong", [{"sorce": "emnist"}, {"per_class": 1}, {"source": "folder"}, {"split": "both"}]
)
def test_a_wrong_parameter_is_one_sentence(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}") as caught:
        load_data(**wrong)
    assert "\n" not in str(caught.value)


def save_squares(folder):
    np.save(folder / "squares.npy", np.arange(1000) ** 2)


def never(folder):
    raise AssertionError("built twice")


def test_cached_arrays_are_built_once_and_mapped():
    cached_arrays("some/squares", save_squares)
    found = cached_arrays("some/squares", never)["squares"]
    assert found[30] == 900 and isinstance(found.base, np.memmap)


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_interrupted_build_leaves_nothing_and_is_done_again(error, data):
    def build(folder):
        save_squares(folder)
        raise error

    with pytest.raises(error):
        cached_arrays("squares", build)
    assert list(data.rglob("*.npy")) == []
    assert cached_arrays("squares", save_squares)["squares"][2] == 4


def test_what_a_killed_build_left_is_not_used(data):
    (data / "cache" / "squares.partial").mkdir(parents=True)
    (data / "cache" / "squares.partial" / "other.npy").write_bytes(b"half")
    assert list(cached_arrays("squares", save_squares)) == ["squares"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:999]),
        lambda file: file.with_name("contents.json").write_text("{"),
    ],
)
def test_a_damaged_cache_is_built_anew(damage, data):
    cached_arrays("squares", save_squares)
    damage(data / "cache" / "squares" / "squares.npy")
    assert cached_arrays("squares", save_squares)["squares"][999] == 998001


def test_a_full_disk_is_one_sentence(data):
    def build(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        InputError, match="squares cannot be written .No space left on device.; free some"
    ):
        cached_arrays("squares", build)


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HANDWRITING_DATA", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set the environment variable HANDWRITING_DATA"):
        cached_arrays("squares", save_squares)


def test_processes_that_ask_at_once_build_once(tmp_path):
    code = (
        "import time, numpy as np; from lib.data.cache import cached_arrays\n"
        "def build(folder):\n"
        f"    open({str(tmp_path / 'builds')!r}, 'a').write('x'); time.sleep(0.5)\n"
        "    np.save(folder / 'ones.npy', np.ones(3))\n"
        "assert cached_arrays('ones', build)['ones'].sum() == 3"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "x"


def test_blocks_join_to_one_array(tmp_path):
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
    save_blocks(
        tmp_path / "images.npy",
        (7, 2, 2),
        (block.transpose(0, 2, 1) for block in np.split(images, [3, 6])),
    )
    assert np.array_equal(np.load(tmp_path / "images.npy"), images.transpose(0, 2, 1))


def test_the_data_folder_lies_beside_lib(monkeypatch):
    monkeypatch.delenv("HANDWRITING_DATA")
    assert (
        cache.data_folder().name == "data"
        and (cache.data_folder().parent / "lib" / "data" / "cache.py").is_file()
    )
