"""A page for someone who was not there: it opens from a file, asks the network for nothing, and is written from result files alone.

outputs/<profile>/report/
    index.html              the article
    notebooks/<step>.html   every executed notebook as a page
"""

from pathlib import Path

from lib.errors import InputError
from lib.files import REPORT, RESULTS, outputs_folder


def write_report(profile_name: str, settings: list[str] = ()) -> Path:
    """Writes the report of a profile from what its runs and notebooks left, and returns the path of the page.

    `settings` are those of the runs, where they had any. What is missing is left out, and the page says so.
    Raises InputError for an unknown profile and for one without results.
    """
    from lib.params import (
        load_profile,
    )  # everything is imported here: who imports this module may never write a report

    profile, outputs = (
        load_profile(profile_name, settings),
        outputs_folder(f"outputs/{profile_name}"),
    )
    if not (outputs / RESULTS).exists():
        raise InputError(
            f"Profile {profile_name} has no results to report: run `invoke run-all --profile {profile_name}` first."
        )
    from lib.report.notebooks import pages_of
    from lib.report.page import render
    from lib.report.reading import read_material
    from lib.report.writing import write_whole

    page = outputs / REPORT
    with pages_of(
        outputs / "notebooks", page.parent / "notebooks"
    ) as pages:  # written at the same time as what follows
        content = render(read_material(profile_name, profile, outputs), pages)
    return write_whole(page, content)
