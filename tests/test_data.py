import errno
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from archives import write_archive

from lib.data import CharacterData, cache, draw, emnist, load_data, strokes
from lib.data.cache import cached_arrays
from lib.data.characters import capped, drawn_anew, stratified
from lib.errors import InputError
from lib.params import DataParameters

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def quick(monkeypatch):
    """Replaces the generator by one that draws noise, and counts its calls."""
    calls = []

    def generate(per_class, seed=0, part="train", bar=""):
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
    """An archive of `bymerge`: six images of most classes, twelve where two cases are one."""
    return write_archive(tmp_path / "small.zip", "bymerge")


def test_the_cap_applies_to_train_and_validation_only(unbalanced):
    everything, _ = emnist.load("bymerge", unbalanced)
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced), cap="mean")
    sizes = np.bincount(found.train_labels) + np.bincount(found.valid_labels)
    assert np.bincount(everything["train_labels"]).max() == 12 and sizes.max() == 372 // 47
    assert np.array_equal(found.test_images, everything["test_images"])
    assert np.array_equal(found.test_labels, everything["test_labels"])


def test_without_a_cap_every_image_is_used(unbalanced):
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced))
    assert len(found.train_labels) + len(found.valid_labels) == 372


def test_another_archive_is_not_called_emnist(unbalanced):
    found = load_data(source="emnist", split="bymerge", archive=str(unbalanced))
    assert found.dataset == "archive small.zip" and found.split == "bymerge"
    md5 = cache.file_md5(unbalanced)
    assert found.note == f"Archive small.zip, md5 {md5}, is not the official EMNIST archive."


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


def test_other_code_makes_new_characters(quick, monkeypatch):
    load_data(per_class=10)
    monkeypatch.setattr(cache, "_own_code", lambda: "other code")
    load_data(per_class=10)
    assert quick == ["train", "test"] * 2


def test_the_checksum_is_that_of_the_arrays(unbalanced):
    given = {"source": "emnist", "split": "bymerge", "archive": str(unbalanced)}
    before = load_data(**given).checksum
    with zipfile.ZipFile(unbalanced, "a") as archive:
        archive.writestr("note.txt", "another archive with the same images")
    assert load_data(**given).checksum == before


@pytest.mark.parametrize("changed", [{"data_seed": 1}, {"valid_fraction": 0.2}, {"per_class": 11}])
def test_other_arrays_have_another_checksum(changed, quick):
    assert load_data(**{"per_class": 10} | changed).checksum != load_data(per_class=10).checksum


def test_classes_of_unequal_frequency_are_so_in_every_part(quick):
    found = load_data(per_class=200, test_per_class=200, class_ratio=20)
    train, valid, test = (
        np.bincount(labels, minlength=62)
        for labels in (found.train_labels, found.valid_labels, found.test_labels)
    )
    assert np.array_equal(train + valid, test) and (test.min(), test.max()) == (10, 200)
    assert valid.min() == 1 and np.unique(test).size > 40 and np.abs(np.diff(test)).max() > 50


def test_the_cap_makes_unequal_classes_more_equal(quick):
    found = load_data(per_class=200, test_per_class=200, class_ratio=20, cap="mean")
    sizes = np.bincount(found.train_labels) + np.bincount(found.valid_labels)
    test = np.bincount(found.test_labels)
    assert (sizes.min(), sizes.max()) == (10, test.sum() // 62) and test.max() == 200


def test_real_digits_are_divided_by_their_writers():
    found = load_data(source="digits")
    parts = found.train_labels, found.valid_labels, found.test_labels
    assert [len(part) for part in parts] == [646, 130, 1021]
    assert found.train_images.dtype == np.uint8 and found.class_names == [*"0123456789"]


def test_real_digits_stand_upright():
    found = load_data(source="digits")
    seven = found.test_images[found.test_labels == 7].mean(0)
    assert seven[2:8].sum() > 1.3 * seven[-8:-2].sum()


@pytest.fixture
def some(quick):
    return load_data(per_class=100, class_ratio=20)


def test_a_draw_gives_each_class_its_share_and_at_least_one(some):
    drawn = draw(some, 500, seed=0)
    sizes, all_sizes = np.bincount(drawn.train_labels), np.bincount(some.train_labels)
    assert sizes.sum() == len(drawn.train_images) == 500 and sizes.min() >= 1
    assert np.abs(sizes - all_sizes * 500 / all_sizes.sum()).max() <= 1


def test_a_draw_keeps_images_with_their_labels_and_the_other_parts(some):
    drawn = draw(some, 300, seed=0)
    label_of = {
        image.tobytes(): label for image, label in zip(some.train_images, some.train_labels)
    }
    assert [label_of[image.tobytes()] for image in drawn.train_images] == list(drawn.train_labels)
    assert drawn.valid_images is some.valid_images and drawn.test_images is some.test_images


def test_a_smaller_draw_is_part_of_a_larger(some):
    smaller, larger = (as_set(draw(some, n, seed=3).train_images) for n in (100, 400))
    assert smaller < larger and smaller != as_set(draw(some, 100, seed=4).train_images)


@pytest.mark.parametrize("n", [0, 10**6])
def test_a_draw_of_none_or_too_many_is_all(n, some):
    assert draw(some, n, seed=0) is some


def test_fewer_images_than_classes_are_refused(some):
    with pytest.raises(InputError, match="train_images is 61, and there are 62 classes"):
        draw(some, 61, seed=0)


def test_the_door_opens_without_torch():
    code = "import sys, lib.data; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


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


def squares():
    return {"squares": np.arange(1000) ** 2}


def never():
    raise AssertionError("built twice")


def test_cached_arrays_are_built_once_and_mapped():
    cached_arrays("some/squares", squares)
    found = cached_arrays("some/squares", never)["squares"]
    assert found[30] == 900 and isinstance(found.base, np.memmap)


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_interrupted_build_leaves_nothing_and_is_done_again(error, data):
    def build():
        raise error("stopped")

    with pytest.raises(error):
        cached_arrays("squares", build)
    assert list(data.rglob("*.npy")) == []
    assert cached_arrays("squares", squares)["squares"][2] == 4


def test_what_a_killed_build_left_is_not_used():
    (cache.cache_folder() / "squares.partial").mkdir(parents=True)
    (cache.cache_folder() / "squares.partial" / "other.npy").write_bytes(b"half")
    assert list(cached_arrays("squares", squares)) == ["squares"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:999]),
        lambda file: file.with_name("contents.json").write_text("{"),
    ],
)
def test_a_damaged_cache_is_built_anew(damage):
    cached_arrays("squares", squares)
    damage(cache.cache_folder() / "squares" / "squares.npy")
    assert cached_arrays("squares", squares)["squares"][999] == 998001


def test_a_full_disk_is_one_sentence(data):
    def build():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        InputError, match="squares cannot be written .No space left on device.; free some"
    ):
        cached_arrays("squares", build)


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HANDWRITING_DATA", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set the environment variable HANDWRITING_DATA"):
        cached_arrays("squares", squares)


def test_processes_that_ask_at_once_build_once(tmp_path):
    code = (
        "import time, numpy as np; from lib.data.cache import cached_arrays\n"
        "def build():\n"
        f"    open({str(tmp_path / 'builds')!r}, 'a').write('x'); time.sleep(0.5)\n"
        "    return {'ones': np.ones(3)}\n"
        "assert cached_arrays('ones', build)['ones'].sum() == 3"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "x"


def test_the_data_folder_lies_beside_lib(monkeypatch):
    monkeypatch.delenv("HANDWRITING_DATA")
    assert (
        cache.data_folder().name == "data"
        and (cache.data_folder().parent / "lib" / "data" / "cache.py").is_file()
    )


def test_a_class_is_drawn_as_the_original_drew_it():
    labels = np.repeat([0, 1, 2], [100, 10, 40])
    rows = drawn_anew(labels, 3)
    assert np.array_equal(rows, np.unique(rows))
    large, small, middle = np.bincount(labels[rows])
    assert 35 <= large <= 45 and small == 10 and 25 <= middle <= 32  # of 50 draws each


def test_a_class_that_no_image_has_is_not_drawn():
    labels = np.repeat([0, 2], [30, 6])
    assert set(labels[drawn_anew(labels, 3)]) == {0, 2}
    assert drawn_anew(np.array([1]), 3).tolist() == [0]


def test_train_and_test_are_both_drawn_as_the_original_drew_them(quick):
    wanted = {"per_class": 200, "test_per_class": 200, "class_ratio": 20}
    whole, found = load_data(**wanted), load_data(**wanted, cap="drawn")
    rows = drawn_anew(whole.test_labels, 62)
    assert np.array_equal(found.test_images, whole.test_images[rows])
    sizes = np.bincount(found.train_labels) + np.bincount(found.valid_labels)
    assert sizes.sum() == len(rows) < len(whole.test_labels)


def test_test_images_that_are_also_to_train_on_are_counted():
    data = load_data(per_class=10, test_per_class=10)
    assert data.n_shared() == 0
    leaked = np.concatenate([data.test_images[:3], data.train_images[:2], data.valid_images[:1]])
    assert replace(data, test_images=leaked).n_shared() == 3
