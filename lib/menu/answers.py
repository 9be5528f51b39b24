"""What invoke predict prints: an answer for each file, as a table or as JSON."""

import json
import math
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lib.errors import InputError
from lib.files import find_model
from lib.reading.recogniser import NOT_A_CHARACTER, Prediction, Recogniser

SHOWN = 3  # alternatives in the table


def predict(
    files: list[str], network: str, profile: str, model: str, coverage: str, as_json: bool
) -> None:
    """Prints what each file shows; status 1 if one could not be read or holds no character."""
    answers = Recogniser.load(
        find_model(network, model, profile), read_coverage(coverage)
    ).predict_all(files)
    if as_json:
        print(
            json.dumps(
                [as_object(file, answer) for file, answer in zip(files, answers, strict=True)],
                ensure_ascii=False,
                indent=1,
            )
        )
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(
            as_table(files, answers)
        )
    if any(isinstance(answer, InputError) or answer.label == NOT_A_CHARACTER for answer in answers):
        sys.exit(1)


def read_coverage(text: str) -> float:
    """The number that a text holds; InputError unless it lies between 0 and 1."""
    try:
        coverage = float(text)
    except ValueError:
        coverage = math.nan
    if not 0 < coverage < 1:
        raise InputError(f"--coverage {text}: give a number between 0 and 1, such as 0.95.")
    return coverage


def as_object(file: str, answer: Prediction | InputError) -> dict:
    """One file's entry of the JSON list; the probabilities have four digits."""
    if isinstance(answer, InputError):
        return {"file": file, "error": str(answer)}
    ranked = [
        {"label": name, "confidence": round(probability, 4)}
        for name, probability in answer.alternatives
    ]
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
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("file", "label", "confidence", "alternatives", "set"):
        table.add_column(
            column,
            no_wrap=column in ("label", "confidence"),
            justify="right" if column == "confidence" else "left",
        )
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, InputError):
            table.add_row(Text(file), Text("error", "red"), "", Text(str(answer)), "")
        elif answer.label == NOT_A_CHARACTER:
            table.add_row(Text(file), Text(NOT_A_CHARACTER, "yellow"), "", Text(answer.reason), "")
        else:
            others = ", ".join(
                f"{name} {probability:.0%}"
                for name, probability in answer.alternatives[1 : 1 + SHOWN]
            )
            table.add_row(
                Text(file),
                Text(answer.label, "bold"),
                f"{answer.confidence:.0%}",
                Text(others),
                Text(" ".join(answer.set)),
            )
    return table
