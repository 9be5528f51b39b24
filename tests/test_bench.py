import bench
import pytest
from archives import write_archive as write_small_archive
from bench.__main__ import bench_table
from bench.clock import in_turn, spread
from bench.rivals import write_archive

from lib.data import load_data
from lib.errors import InputError
from lib.menu import commands

pytestmark = pytest.mark.usefixtures("data")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "gzip.zip"
    write_archive(path, n_train=2048, n_test=620, per_class=20)
    return path


def test_contestants_take_turns_and_keep_their_median():
    order, numbers = [], {"a": iter([1, 9, 2]), "b": iter([5, 6, 7])}
    found = in_turn(
        3,
        {name: lambda name=name: (order.append(name), next(numbers[name]))[1] for name in numbers},
    )
    assert found == {"a": 2, "b": 6} and order == ["a", "b"] * 3


def test_a_spread_is_median_and_range():
    assert spread([3, 1, 2]) == {"median": 2, "lowest": 1, "highest": 3}


def test_the_archive_reads_as_one_of_emnist_does(archive):
    data = load_data(source="emnist", archive=str(archive))
    assert len(data.train_labels) + len(data.valid_labels) == 2048 and len(data.test_labels) == 620


def test_training_is_compared_with_stock_fastai():
    found = bench.bench_training(["custom"], repeats=1, per_class=10)["custom"]
    assert found["ratio"] == pytest.approx(found["ours"] / found["stock"]) and found["stock"] > 0


def test_a_step_is_a_share_of_the_matrix_product():
    found = bench.bench_steps(["custom"], repeats=1, size=64)
    assert found["custom"]["share"] == pytest.approx(
        found["custom"]["GFLOP/s"] / found["matrix product"]["GFLOP/s"]
    )
    assert (
        found["matrix product"]["share"] == pytest.approx(1)
        and found["erasing"]["part of custom's step"] > 0
    )


def test_loading_is_compared_with_torchvision(archive):
    found = bench.bench_archive(archive, repeats=1)
    assert (
        set(found) == {"ours", "torchvision"}
        and found["ours"]["first load"] > found["ours"]["second load"] > 0
    )
    rates = bench.bench_loader(archive, repeats=1, n=1024)["images/s"]
    assert rates["ratio"] == pytest.approx(rates["ours"] / rates["torchvision"])


def test_an_epoch_is_timed_with_its_memory(archive):
    found = bench.bench_epoch(archive)["custom"]
    assert found["seconds"] > 0 and 0.1 < found["peak memory, GB"] < 10


def test_the_mnist_recipes_run_once_per_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SEEDS", 2)
    write_small_archive(tmp_path / "mnist.zip", "mnist")
    found = bench.bench_mnist(str(tmp_path / "mnist.zip"))
    assert set(found) == {"99.0 %", "99.5 %"} and found["99.0 %"]["seeds"] == 2
    assert 0 <= found["99.5 %"]["accuracy"]["lowest"] <= found["99.5 %"]["accuracy"]["highest"] <= 1


def test_a_table_has_a_row_per_contestant_and_a_column_per_number():
    table = bench_table(
        "MNIST", {"99.0 %": {"seconds": {"median": 8.1234}}, "99.5 %": {"rate": 12345.6}}
    )
    assert [column.header for column in table.columns] == [
        "",
        "seconds median",
        "rate",
    ] and table.row_count == 2
    assert list(table.columns[1].cells) == ["8.123", ""] and list(table.columns[2].cells) == [
        "",
        "12,346",
    ]


def test_a_missing_archive_is_reported_before_anything_is_measured():
    with pytest.raises(InputError, match="nowhere.zip: there is no such file"):
        commands.bench("nowhere.zip", as_json=True)
