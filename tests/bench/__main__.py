"""`python -m bench` in tests/: a table per part of the benchmark, or everything as JSON."""

import argparse
import json
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

import bench


def bench_table(title: str, rows: dict[str, dict]) -> Table:
    """One row per contestant; numbers with four digits."""
    flat = pd.json_normalize(list(rows.values()), sep=" ").set_axis(list(rows), axis=0)
    table = Table("", *flat.columns, title=title, title_justify="left")
    for name, row in flat.iterrows():
        table.add_row(
            name,
            *(
                "" if pd.isna(value) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
                for value in row
            ),
        )
    return table


def main() -> None:
    """What is going on goes to stderr."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.archive and not Path(options.archive).is_file():
        parser.exit(2, f"--archive {options.archive}: there is no such file.\n")
    console, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    results = bench.run(options.archive, say=lambda line: notes.print(line, soft_wrap=True))
    if options.json:
        print(json.dumps(results, indent=1))
        return
    console.print(
        *(f"{name} {value}" for name, value in results.pop("machine").items()),
        sep=", ",
        soft_wrap=True,
    )
    for name, rows in results.items():
        console.print(bench_table(getattr(bench, f"bench_{name}").__doc__.splitlines()[0], rows))


if __name__ == "__main__":
    main()
