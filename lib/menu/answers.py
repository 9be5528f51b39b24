"""What invoke predict prints: an answer for each file, as a table or as JSON."""

import json
import sys
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lib.errors import InputError, printable
from lib.reading import Prediction, Recogniser, find_model
from lib.reading.recogniser import NOT_A_CHARACTER


def predict(
    files: list[str], network: str, profile: str, model: str, coverage: str, as_json: bool
) -> None:
    """Prints what each file shows; status 1 if one cannot be read or holds no character."""
    recogniser = Recogniser.load(find_model(network, model, profile), read_coverage(coverage))
    answers = recogniser.predict_all(files)
    if as_json:
        entries = [as_object(file, answer) for file, answer in zip(files, answers, strict=True)]
        print(json.dumps(entries, indent=1))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
        console.print(as_table(files, answers))
    if any(isinstance(answer, InputError) or answer.label == NOT_A_CHARACTER for answer in answers):
        sys.exit(1)


def read_coverage(text: str) -> float:
    """The number that a text holds; InputError unless it lies between 0 and 1."""
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise InputError(f"--coverage {text}: give a number between 0 and 1, such as 0.95.")


def as_object(file: str, answer: Prediction | InputError) -> dict:
    """One file's entry of the JSON list: five alternatives; the probabilities have four digits."""
    if isinstance(answer, InputError):
        return {"file": file, "error": str(answer)}
    ranked = [{"label": name, "confidence": round(p, 4)} for name, p in answer.alternatives[1:6]]
    entry = {
        "file": file,
        "label": answer.label,
        "confidence": round(answer.confidence, 4),
        "alternatives": ranked,
        "set": answer.set,
    }
    return entry | ({"reason": answer.reason} if answer.reason else {})


def as_table(files: list[str], answers: list[Prediction | InputError]) -> Table:
    """A row per file; where there is no answer, the sentence that says why stands in its place."""
    table = Table("file", box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("label", no_wrap=True)
    table.add_column("confidence", no_wrap=True, justify="right")
    table.add_column("alternatives")
    table.add_column("set")
    for file, answer in zip(files, answers, strict=True):
        table.add_row(Text(printable(file)), *row_of(answer))
    return table


def row_of(answer: Prediction | InputError) -> list[Text]:
    """The cells of an answer: label, confidence, alternatives, set."""
    if isinstance(answer, InputError):
        return [Text("error", "red"), Text(), Text(str(answer))]
    if answer.label == NOT_A_CHARACTER:
        return [Text(answer.label, "yellow"), Text(), Text(answer.reason)]
    others = ", ".join(f"{name} {p:.0%}" for name, p in answer.alternatives[1:4])
    plain = [f"{answer.confidence:.0%}", others, " ".join(answer.set)]
    return [Text(printable(answer.label), "bold"), *map(Text, map(printable, plain))]
