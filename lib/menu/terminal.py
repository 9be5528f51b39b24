"""What the menu needs beyond invoke: a task for any number of files."""

import sys
from itertools import pairwise

from invoke import Argument, Task


class FilesTask(Task):
    """A task whose parameter `files` takes all words but options: invoke predict a.png b.png.

    invoke gives each word a parameter of its own, so the words of the command line are counted.
    """

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        files, *options = super().get_arguments(ignore_unknown_help)  # what must be given is first
        n_files = max(1, len(words_behind(self.name, sys.argv[1:], options)))
        names = ["file"] + [f"file{number}" for number in range(2, n_files + 1)]
        asked = [Argument(name=name, positional=True) for name in names]
        asked[0].help = files.help
        return asked + options

    def __call__(self, *args, **kwargs):
        names = [name for name in kwargs if name.removeprefix("file").isdecimal() or name == "file"]
        return super().__call__(*args, files=[kwargs.pop(name) for name in names], **kwargs)


def words_behind(task: str, words: list[str], options: list[Argument]) -> list[str]:
    """The words behind a task's name, less options and the values of those that take one."""
    names = [name for option in options if option.takes_value for name in option.names]
    taking = {f"--{name}" if len(name) > 1 else f"-{name}" for name in names}
    behind = words[words.index(task) :] if task in words else []
    return [word for before, word in pairwise(behind) if before not in taking and word[:1] != "-"]
