import os

import numpy as np
import pytest
from PIL import Image

from lib.data import folder
from lib.errors import InputError

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def own(tmp_path):
    """A folder with three images each of 1 (a tall bar) and T."""
    for name in "1T":
        for i in range(3):
            save(tmp_path / "own" / name / f"{i}.png", name, shift=i)
    return tmp_path / "own"


def save(file, name="1", shift=0, ink=0, paper=255, size=60):
    """A drawn character: dark on light unless told otherwise."""
    pixels = np.full((size, size), paper, np.uint8)
    pixels[10:50, 26 + shift : 32 + shift] = ink
    if name == "T":
        pixels[10:16, 10:50] = ink
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def refusal(path, data):
    """The message that loading ends with, after a look that it left no arrays behind."""
    with pytest.raises(InputError) as caught:
        folder.load(path)
    assert list(data.rglob("*.npy")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_folders_give_images_labels_and_names(own):
    arrays, names = folder.load(own)
    assert names == ["1", "T"]
    assert arrays["images"].shape == (6, 28, 28) and arrays["images"].dtype == np.uint8
    assert arrays["labels"].tolist() == [0, 0, 0, 1, 1, 1]


def test_images_are_bright_ink_on_0_and_upright(own):
    arrays, _ = folder.load(own)
    upright_t = arrays["images"][-1]
    assert upright_t[0].max() == 0 and upright_t[:8].sum() > 2 * upright_t[-8:].sum()


def test_both_polarities_give_the_same_image(own):
    save(own / "1" / "0.png", ink=255, paper=0)
    save(own / "1" / "1.png", ink=0, paper=255)
    images = folder.load(own)[0]["images"]
    assert np.array_equal(images[0], images[1])


def test_a_table_gives_the_same_as_class_folders(own, tmp_path):
    lines = [f"../own/{name}/{i}.png,{name}" for name in "1T" for i in range(3)]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "labels.csv").write_text(
        "\n".join(["file,label", *lines]), encoding="utf-8-sig"
    )
    assert np.array_equal(
        folder.load(tmp_path / "table")[0]["images"], folder.load(own)[0]["images"]
    )


def test_lower_and_upper_can_be_spelt_out(own):
    (own / "T").rename(own / "t_upper")
    (own / "1").rename(own / "t_lower")
    assert folder.load(own)[1] == ["T", "t"]


def test_longer_names_stay_and_come_last(own):
    (own / "1").rename(own / "Ampersand_lower")
    assert folder.load(own)[1] == ["T", "Ampersand_lower"]


def test_train_and_test_folders_are_kept_apart(own, tmp_path):
    own.rename(tmp_path / "train")
    save(tmp_path / "test" / "T" / "0.png", "T")
    arrays, names = folder.load(tmp_path)
    assert names == ["1", "T"]
    assert arrays["in_test"].tolist() == [False] * 6 + [True]


def test_hidden_files_are_passed_over(own):
    (own / "1" / ".DS_Store").write_text("clutter")
    (own / ".ipynb_checkpoints").mkdir()
    assert len(folder.load(own)[0]["images"]) == 6


def test_the_second_load_converts_nothing(own, monkeypatch):
    folder.load(own)
    monkeypatch.setattr("lib.data.cleanup.convert", None)
    assert len(folder.load(own)[0]["images"]) == 6


def test_a_changed_image_is_converted_again(own):
    before = folder.load(own)[0]["checksum"]
    os.utime(save(own / "1" / "0.png", "T"), ns=(0, 12345))
    assert folder.load(own)[0]["checksum"] != before


def test_an_added_image_is_seen(own):
    folder.load(own)
    save(own / "1" / "9.png")
    assert len(folder.load(own)[0]["images"]) == 7


def test_a_file_that_is_no_image_is_named(own, data):
    (own / "T" / "notes.txt").write_text("no image")
    assert f"{own / 'T' / 'notes.txt'} cannot be read as an image" in refusal(own, data)


def test_a_truncated_image_is_named(own, data):
    file = own / "T" / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    assert f"{file} cannot be read as an image" in refusal(own, data)


def test_a_blank_image_is_named(own, data):
    file = save(own / "T" / "1.png", ink=255)
    message = refusal(own, data)
    assert str(file) in message and "no ink" in message


def test_an_empty_class_folder_is_named(own, data):
    (own / "X").mkdir()
    assert str(own / "X") in refusal(own, data)


def test_a_class_with_two_images_is_named(own, data):
    (own / "T" / "1.png").unlink()
    assert "Class 'T'" in (message := refusal(own, data)) and "2 images" in message


def test_one_class_is_not_enough(own, data):
    for file in (own / "T").iterdir():
        file.unlink()
    (own / "T").rmdir()
    assert "fewer than 2 classes" in refusal(own, data)


def test_a_folder_that_is_not_there_is_named(tmp_path, data):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere", data)


def test_a_test_class_without_training_images_is_named(own, tmp_path, data):
    own.rename(tmp_path / "train")
    file = save(tmp_path / "test" / "X" / "0.png")
    assert str(file) in refusal(tmp_path, data)


TABLES = {
    "missing file": ("file,label\nnowhere.png,A\n", "Line 2"),
    "missing column": ("file,class\n1/0.png,1\n", "column `label`"),
    "empty label": ("file,label\n1/0.png,\n", "Line 2"),
    "short line": ("file,label\n1/0.png\n", "Line 2"),
    "empty table": ("", "column `file`"),
}


@pytest.mark.parametrize("text, words", TABLES.values(), ids=TABLES)
def test_a_wrong_table_is_named(text, words, own, data):
    (own / "labels.csv").write_text(text)
    assert words in (message := refusal(own, data)) and str(own / "labels.csv") in message


def test_a_table_that_is_not_utf_8_is_named(own, data):
    (own / "labels.csv").write_bytes("file,label\nß.png,A".encode("latin-1"))
    assert str(own / "labels.csv") in refusal(own, data)
