"""The one exception that users are meant to read, and how text of theirs is shown."""

import re


def printable(text: str) -> str:
    """The text with whatever does not print, or begins a new line, escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class InputError(ValueError):
    """Something the user gave (a parameter, a file, an archive, an image) cannot be used.

    The message is one sentence that names the thing, says what is wrong with it and what to do.
    Commands print it alone and exit with status 2; notebooks show it at the traceback's end. What
    does not print is escaped; of 300 letters without a space, and of 1,000 in all, some are cut.
    """

    def __init__(self, message: str):
        super().__init__(message)
        short = printable(re.sub(r"\S{300,}", lambda word: f"{word[0][:57]}...", message))
        self.message = re.sub(r"^(.{500}).{300,}(.{200})$", r"\1 ... \2", short)

    def __str__(self) -> str:
        return self.message  # fastai puts a callback's name before the message of its exceptions


def not_there(path: object) -> InputError:
    """What is said of a file that does not exist."""
    return InputError(f"{path} is not there; check its name.")
