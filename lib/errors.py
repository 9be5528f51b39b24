"""The one exception that users are meant to read."""


class InputError(ValueError):
    """Something the user gave (a parameter, a file, an archive, an image) cannot be used.

    The message is one sentence that names the thing, says what is wrong with it and what to do.
    Commands print it alone and exit with status 2; notebooks show it as the last line of the traceback.
    """
