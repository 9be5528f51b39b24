"""What invoke predict prints: an answer for each file, as a table or as JSON."""

import json
import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from string import ascii_letters, ascii_uppercase, digits
from typing import Annotated

from pydantic import Field, TypeAdapter
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lib.errors import InputError, not_there, printable
from lib.files import SHIPPED

CHOICES = {"digits": digits, "capitals": ascii_uppercase, "letters": ascii_letters}
FREQUENCIES = TypeAdapter(dict[str, Annotated[float, Field(strict=True, ge=0, le=1e30)]])


def predict(
    files: list[str],
    network: str,
    profile: str,
    model: str,
    coverage: str,
    among: str,
    as_json: bool,
) -> None:
    """Prints what each file shows; status 1 if one cannot be read or holds no character."""
    if profile and (model or not network or network in SHIPPED):
        problem = "name one with --network, too" if not (model or network) else "leave it out here"
        raise InputError(f"--profile {profile} says whose trained network: {problem}.")
    share, prior = read_coverage(coverage), read_prior(among) or None
    if any(map(os.path.exists, files)):
        from lib.reading import Recogniser, find_model  # torch takes seconds

        path = find_model(network, model, profile or "strokes")
        answers = Recogniser.load(path, share, prior).predict_all(files)
    else:
        answers = [not_there(file) for file in files]
    if as_json:
        entries = [as_object(file, answer) for file, answer in zip(files, answers, strict=True)]
        print(json.dumps(entries, indent=1))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
        console.print(as_table(files, answers))
    if any(isinstance(answer, InputError) or answer.reason for answer in answers):
        sys.exit(1)


def read_coverage(text: str) -> float:
    """The number that a text holds; InputError unless it lies between 0 and 1."""
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise InputError(f"--coverage {text}: give a number between 0 and 1, such as 0.95.")


def read_prior(text: str) -> dict[str, float]:
    """How frequent each class is: CHOICES, "A-F0-9", or a JSON file such as {"a": 8.2, "b": 1.5}.

    Empty for an empty text. Raises InputError for a range or a file that cannot be used.
    """
    if text.endswith(".json"):
        with suppress(OSError, ValueError):
            given = FREQUENCIES.validate_json(Path(os.path.expanduser(text)).read_bytes())
            if any(given.values()):
                return given
        raise InputError(
            f"--among {text}: give a JSON file that holds a frequency for each character that "
            'may be there, such as {"a": 8.2, "b": 1.5}.'
        )
    ranges = [(a, b or a) for a, b in re.findall(r"(.)(?:-(.))?", CHOICES.get(text, text))]
    misspelt = text not in CHOICES and get_close_matches(text, CHOICES)
    if misspelt or any(first > last for first, last in ranges):
        raise InputError(
            f"--among {text}: write ranges such as 0-9 or A-Za-z, or one of {', '.join(CHOICES)}."
        )
    return {chr(i): 1.0 for first, last in ranges for i in range(ord(first), ord(last) + 1)}


def as_object(file: str, answer) -> dict:
    """One file's entry of the JSON list: five alternatives; the probabilities have four digits."""
    if isinstance(answer, InputError):
        return {"file": file, "error": str(answer)}
    others = answer.alternatives[:5] if answer.reason else answer.alternatives[1:6]
    entry = {"file": file, "label": answer.label, "confidence": round(answer.confidence, 4)}
    entry["alternatives"] = [{"label": name, "confidence": round(p, 4)} for name, p in others]
    entry["set"] = answer.set
    return entry | ({"reason": answer.reason} if answer.reason else {})


def as_table(files: list[str], answers: list) -> Table:
    """A row per file; where there is no answer, the sentence that says why stands in its place."""
    confidence = Column("confidence", no_wrap=True, justify="right")
    columns = ["file", Column("label", no_wrap=True), confidence, "alternatives", "set"]
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="dim")
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, InputError):
            cells, style = ["error", "", str(answer)], "red"
        elif answer.reason:
            cells, style = [answer.label, "", answer.reason], "yellow"
        else:
            others = ", ".join(f"{name} {p:.0%}" for name, p in answer.alternatives[1:4])
            sure, style = [f"{answer.confidence:.0%}", others, " ".join(answer.set)], "bold"
            cells = [answer.label, *sure]
        file, label, *rest = map(printable, [file, *cells])
        table.add_row(Text(file), Text(label, style), *map(Text, rest))
    return table
