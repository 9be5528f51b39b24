import gzip
import http.server
import threading
import zipfile

import numpy as np
import pytest
from archives import characters, idx, mapping, write_archive

from lib.data import cache, emnist
from lib.data.classes import BYCLASS, NAMES, class_names, split_labels
from lib.errors import InputError

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "small.zip"


def refusal(split, archive, data):
    """The message that loading ends with, after a look that it left no arrays behind."""
    with pytest.raises(InputError) as caught:
        emnist.load(split, archive)
    assert [
        file
        for file in data.rglob("*")
        if file.is_file()
        and file.name not in ("md5.npy", cache.CONTENTS)
        and file.suffix != ".lock"
    ] == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", NAMES)
def test_images_come_out_upright_and_in_their_order(split, archive):
    loaded, _ = emnist.load(split, write_archive(archive, split))
    assert np.array_equal(loaded["train_images"], characters(split, "train")[0])
    assert np.array_equal(loaded["test_images"], characters(split, "test")[0])


@pytest.mark.parametrize("split", NAMES)
def test_labels_count_from_0_and_fit_the_names(split, archive):
    labels = emnist.load(split, write_archive(archive, split))[0]["train_labels"]
    assert np.array_equal(labels, characters(split, "train")[1]) and labels.dtype == np.int64


def test_letters_are_stored_from_1_and_named_a_to_z(archive):
    loaded, _ = emnist.load("letters", write_archive(archive, "letters"))
    assert set(loaded["train_labels"]) == set(range(26))
    assert "".join(class_names("letters")) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_balanced_counts_small_c_with_capital_c():
    labels = split_labels("balanced")
    assert (
        labels[BYCLASS.index("c")]
        == labels[BYCLASS.index("C")]
        == class_names("balanced").index("C")
    )


def test_balanced_tells_small_a_from_capital_a():
    labels = split_labels("balanced")
    assert class_names("balanced")[labels[BYCLASS.index("a")]] == "a"


def test_digits_have_no_label_for_letters():
    assert split_labels("digits").tolist() == [*range(10)] + [-1] * 52


@pytest.mark.parametrize("split", NAMES)
def test_images_that_are_stored_upright_are_refused(split, archive, data):
    write_archive(archive, split, train_images=idx(characters(split, "train")[0]))
    assert f"emnist-{split}-train-images-idx3-ubyte.gz" in (
        message := refusal(split, archive, data)
    )
    assert "not transposed" in message


def test_a_test_part_that_is_stored_upright_is_refused(archive, data):
    write_archive(archive, "letters", test_images=idx(characters("letters", "test")[0]))
    assert "emnist-letters-test-images" in refusal("letters", archive, data)


def test_mirrored_images_are_refused(archive, data):
    mirrored = characters("letters", "train")[0][:, :, ::-1]
    write_archive(archive, "letters", train_images=idx(mirrored.transpose(0, 2, 1)))
    assert "not transposed as" in refusal("letters", archive, data)


@pytest.mark.parametrize("split", NAMES)
def test_shuffled_labels_are_refused(split, archive, data):
    labels = np.random.default_rng(0).permutation(characters(split, "train")[1]) + (
        split == "letters"
    )
    write_archive(archive, split, train_labels=idx(labels))
    assert "do not fit their labels" in refusal(split, archive, data)


@pytest.mark.parametrize("split", NAMES)
def test_labels_off_by_one_are_refused(split, archive, data):
    labels = (characters(split, "train")[1] + 1) % len(class_names(split)) + (split == "letters")
    write_archive(archive, split, train_labels=idx(labels))
    assert "do not fit their labels" in refusal(split, archive, data)


@pytest.mark.parametrize("part", ["train", "test"])
def test_blank_images_are_refused(part, archive, data):
    blank = np.zeros_like(characters("digits", part)[0])
    write_archive(archive, "digits", **{f"{part}_images": idx(blank)})
    assert "do not fit their labels" in refusal("digits", archive, data)


IMAGES, LABELS = (idx(array) for array in characters("digits", "train"))
DAMAGES = {
    "wrong magic of images": ("train_images", b"\0\0\x0d" + IMAGES[3:], "IDX magic"),
    "wrong magic of labels": ("train_labels", b"\0\0\x08\x03" + LABELS[4:], "IDX magic"),
    "empty": ("train_labels", b"", "IDX magic"),
    "more images than labels": (
        "train_images",
        idx(np.repeat(characters("digits", "train")[0], 2, 0)),
        "120 images",
    ),
    "images cut short": ("train_images", IMAGES[:-5], "47040 bytes and 47035 follow"),
    "images too long": ("train_images", IMAGES + b"\0", "47040 bytes and more follow"),
    "labels cut short": ("train_labels", LABELS[:-1], "60 bytes and 59 follow"),
    "labels too long": ("train_labels", LABELS + b"\0", "60 bytes and more follow"),
    "a size that nothing has": ("train_labels", b"\0\0\x08\1" + b"\xff" * 4, "4294967295 items"),
    "label out of range": ("train_labels", LABELS[:-1] + b"\x0a", "label 10"),
    "class without images": ("train_labels", LABELS.replace(b"\x09", b"\x01"), "class '9'"),
    "images of another size": ("train_images", idx(np.zeros((60, 32, 32))), "32 x 32"),
    "no test labels": ("test_labels", idx(np.zeros(0)), "no image"),
    "other names": (
        "mapping",
        mapping("digits").replace("3 51", "3 52").encode(),
        "'4' for label 3",
    ),
    "other first label": ("mapping", b"1 48\r\n", "label 0"),
    "no mapping table": ("mapping", b"<html>", "no table of labels"),
}


@pytest.mark.parametrize("member, payload, words", DAMAGES.values(), ids=DAMAGES)
def test_a_wrong_member_is_refused_by_name(member, payload, words, archive, data):
    message = refusal("digits", write_archive(archive, **{member: payload}), data)
    assert words in message and str(archive) in message
    assert f"emnist-digits-{member.replace('_', '-')}" in message


def test_no_more_is_unpacked_than_the_header_promises(archive, data, monkeypatch):
    unpacked = []
    read = gzip.GzipFile.readinto
    monkeypatch.setattr(
        gzip.GzipFile, "readinto", lambda *given: unpacked.append(read(*given)) or unpacked[-1]
    )
    write_archive(archive, train_labels=LABELS + bytes(2**24))
    assert "60 bytes and more follow" in refusal("digits", archive, data)
    assert sum(unpacked) == 60


def test_a_letter_labelled_0_is_refused(archive, data):
    write_archive(archive, "letters", train_labels=idx(characters("letters", "train")[1]))
    assert "label 0 is none of the 26" in refusal("letters", archive, data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:40] + b"x" * 40 + packed[80:],
        lambda packed: b"<html>",
        lambda packed: packed + b"x",
        lambda packed: None,
    ],
)
def test_a_damaged_or_missing_gzip_member_is_refused_by_name(damage, archive, data):
    write_archive(archive, damage=("train_images", damage))
    assert "emnist-digits-train-images-idx3-ubyte.gz" in refusal("digits", archive, data)


def test_a_split_that_the_archive_lacks_is_refused(archive, data):
    assert "emnist-mnist-mapping.txt" in refusal("mnist", write_archive(archive, "digits"), data)


def test_a_zip_with_a_flipped_byte_is_refused(archive, data):
    packed = bytearray(write_archive(archive).read_bytes())
    packed[len(packed) // 2] ^= 255
    archive.write_bytes(packed)
    assert "emnist-digits-train-images" in refusal("digits", archive, data)


def test_a_name_that_runs_into_the_data_is_not_quoted_whole(archive, data):
    packed = bytearray(write_archive(archive).read_bytes())
    packed[27] = 40  # the length of the first member's name, in its header: 10,240 more
    archive.write_bytes(packed)
    message = refusal("digits", archive, data)
    assert " ... " in message and len(message) < 1000 and "a good copy" in message


@pytest.mark.parametrize("content", [b"\n<!DOCTYPE html><html>", b""])
def test_a_file_that_is_no_archive_is_refused(content, archive, data):
    archive.write_bytes(content)
    message = refusal("digits", archive, data)
    assert f"{archive} cannot be read (File is not a zip file)" in message


def test_half_an_archive_is_refused(archive, data):
    archive.write_bytes(write_archive(archive).read_bytes()[:5000])
    assert "File is not a zip file" in refusal("digits", archive, data)


def test_an_archive_that_is_not_there_is_refused(tmp_path, data):
    assert "nowhere.zip cannot be read (No such file" in refusal(
        "digits", tmp_path / "nowhere.zip", data
    )


def test_a_folder_is_refused_as_archive(tmp_path, data):
    assert "cannot be read (Is a directory)" in refusal("digits", tmp_path, data)


def test_the_second_load_does_not_open_the_archive(archive, monkeypatch):
    first, _ = emnist.load("digits", write_archive(archive))
    monkeypatch.setattr(emnist, "read_split", None)
    again, _ = emnist.load("digits", archive)
    assert np.array_equal(again["train_images"], first["train_images"])


def test_an_archive_that_changed_is_read_again(archive):
    before = emnist.load("digits", write_archive(archive))[1]
    with zipfile.ZipFile(archive, "a") as zip_file:
        zip_file.writestr("note.txt", "another archive")
    assert emnist.load("digits", archive)[1] != before


class Host(http.server.BaseHTTPRequestHandler):
    """Answers with what self.server.pages has for the path: (body, bytes promised), or 404."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body, promised = self.server.pages.get(self.path, (None, 0))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def host(archive, monkeypatch):
    """A server with the official archive under /good; `use` tells emnist where to look."""
    content = write_archive(archive).read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.pages, server.asked = {"/good": (content, len(content))}, []
        url = f"http://127.0.0.1:{server.server_port}"
        server.use = lambda *paths: monkeypatch.setattr(
            emnist, "URLS", tuple(url + path for path in paths)
        )
        monkeypatch.setattr(emnist, "OFFICIAL_MD5", cache.file_md5(archive))
        yield server
        server.shutdown()


def test_a_good_download_is_official(host):
    host.use("/good")
    loaded, md5 = emnist.load("digits")
    assert md5 == emnist.OFFICIAL_MD5 and len(loaded["train_labels"]) == 60


def test_the_archive_is_downloaded_once(host):
    host.use("/good")
    emnist.load("digits")
    emnist.download()
    assert host.asked == ["/good"]


def test_a_web_page_in_place_of_the_archive_is_refused(host, data):
    host.pages["/page"] = b"<!DOCTYPE html>" + b" " * 100_000, 100_015
    host.use("/page")
    assert "127.0.0.1" in (message := refusal("digits", "", data))
    assert "it sent another file, by its MD5" in message


def test_a_download_that_breaks_off_is_done_again_elsewhere(host):
    good, size = host.pages["/good"]
    host.pages["/broken"] = good[:1000], size
    host.use("/broken", "/good")
    emnist.load("digits")
    assert host.asked == ["/broken", "/good"]


def test_a_download_that_breaks_off_leaves_nothing(host, data):
    good, size = host.pages["/good"]
    host.pages["/broken"] = good[:1000], size
    host.use("/broken")
    assert "could not be downloaded" in refusal("digits", "", data)


def test_what_a_killed_download_left_is_removed(host, data):
    (data / "raw").mkdir(parents=True)
    (data / "raw" / "tmp1234").write_bytes(b"half")
    host.use("/good")
    emnist.download()
    assert not (data / "raw" / "tmp1234").exists()


def test_when_every_host_fails_the_way_out_is_named(host, data, monkeypatch):
    host.use("/gone")
    monkeypatch.setattr(emnist, "URLS", (*emnist.URLS, "http://127.0.0.1:1/closed"))
    message = refusal("digits", "", data)
    assert "it answered 404" in message and "127.0.0.1:1: ConnectionError" in message
    assert "by hand and set `archive`" in message
