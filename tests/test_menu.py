"""A task for any number of files, which invoke itself does not know."""

import sys

import pytest
from invoke import Argument

from lib.menu.terminal import FilesTask, words_behind

OPTIONS = [Argument(names=("network", "n")), Argument(names=("json", "j"), kind=bool)]


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("predict a.png b.png", ["a.png", "b.png"]),
        ("predict --network custom a.png --json b.png", ["a.png", "b.png"]),
        ("predict -n custom a.png", ["a.png"]),
        ("predict --network=custom a.png", ["a.png"]),
        ("predict --json", []),
        ("status", []),
        ("predict same.png same.png", ["same.png", "same.png"]),
    ],
)
def test_words_that_are_no_options_are_files(line, files):
    assert words_behind("predict", line.split(), OPTIONS) == files


def test_a_task_gets_its_files_as_a_list(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["invoke", "look", "a", "b", "c"])
    look = FilesTask(lambda c, files, json=False: files, name="look")
    assert [argument.name for argument in look.get_arguments() if argument.positional] == [
        "file",
        "file2",
        "file3",
    ]
    from invoke import Context

    assert look(Context(), file="a", file2="b", file3="c", json=True) == ["a", "b", "c"]
