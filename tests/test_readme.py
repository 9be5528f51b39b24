import base64
import re

import pytest

from lib.report import readme

TEXT = readme.README.read_text(encoding="utf-8")


def test_the_readmes_tables_are_those_of_the_stored_report():
    assert readme.with_tables(TEXT, readme.STORED) == TEXT


def test_the_readmes_picture_is_that_of_the_stored_report():
    picture = readme.output_of(readme.STORED, "readme-overview", "image/png")
    assert readme.PICTURE.read_bytes() == base64.b64decode(picture)


@pytest.mark.parametrize("name", ["results", "findings", "more"])
def test_the_readme_has_a_place_for_each_table(name):
    assert re.search(rf"<!-- {name} -->\n\|.*?\n<!-- end -->", TEXT, flags=re.S)


def test_every_question_of_the_readme_is_answered_with_a_measured_number():
    tables = re.findall(r"\| question \|.*?<!-- end -->", TEXT, flags=re.S)
    rows = [line.split("|") for table in tables for line in table.splitlines()[2:-1]]
    assert len({row[1] for row in rows}) == len(rows) == 11
    assert all(re.search(r"\d[\d,.]* (%|points|±|of \d)", row[2]) for row in rows)
