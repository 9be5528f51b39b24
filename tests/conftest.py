import plans
import pytest

from lib import pipeline


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of the test's own, so that nothing is read from or left in the user's."""
    monkeypatch.setenv("HANDWRITING_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of tiny notebooks in place of the real ones, and of their results."""
    monkeypatch.setattr(pipeline, "ANALYSE", plans.ANALYSE)
    plans.write_all(tmp_path)
    monkeypatch.setattr(pipeline, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("HANDWRITING_OUTPUTS", str(tmp_path))
    return tmp_path
