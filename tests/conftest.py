import pytest


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of the test's own, so that nothing is read from or left in the user's."""
    monkeypatch.setenv("HANDWRITING_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
