import json
import re

import pandas as pd
import pytest

from lib.report import readme

TEXT = readme.README.read_text(encoding="utf-8")
CONTENT = json.loads(readme.KEPT.read_text(encoding="utf-8"))


def test_the_readmes_tables_are_those_of_the_kept_results():
    assert readme.with_tables(TEXT, CONTENT) == TEXT


def test_another_result_gives_another_readme():
    other = json.loads(json.dumps(CONTENT))
    other["results"][0]["test_accuracy"] -= 0.2
    assert readme.with_tables(TEXT, other) != TEXT


@pytest.mark.parametrize("name", ["results", "findings"])
def test_the_readme_has_a_place_for_each_table(name):
    assert re.search(rf"<!-- {name} -->\n\|.*?<!-- end -->", TEXT, flags=re.S)


def test_the_kept_results_are_of_the_default_profile_with_three_seeds_of_each_network():
    runs = pd.DataFrame(CONTENT["results"]).groupby("network")["seed"].nunique()
    assert (
        CONTENT["profile"] == "strokes"
        and set(runs.index) == {"lenet", "resnet", "custom"}
        and (runs == 3).all()
    )


def test_the_means_of_the_table_are_those_of_the_runs():
    runs = pd.DataFrame(CONTENT["results"]).groupby("network")["test_accuracy"].mean()
    row = next(line for line in TEXT.splitlines() if line.startswith("| LeNet "))
    assert row.split("|")[5].strip().startswith(f"{100 * runs['lenet']:.1f} ± ")


def test_every_answer_of_the_readme_holds_a_number():
    lines = readme.findings_table(CONTENT).splitlines()[2:]
    assert len(lines) == len(readme.QUESTIONS) and all(
        re.search(r"\d", line.split("|")[2]) for line in lines
    )
