import bench
import pytest
from archives import write_archive as write_small_archive
from bench.__main__ import bench_table
from bench.clock import in_turn, spread
from bench.rivals import write_archive

from lib.data import load_data

pytestmark = [pytest.mark.usefixtures("data"), pytest.mark.slow]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "gzip.zip"
    write_archive(path, n_train=2048, n_test=620, per_class=20)
    return path


def test_contestants_take_turns_and_keep_their_median():
    order, numbers = [], {"a": iter([1, 9, 2]), "b": iter([5, 6, 7])}

    def measure(name):
        order.append(name)
        return next(numbers[name])

    found = in_turn(3, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert found == {"a": 2, "b": 6} and order == ["a", "b"] * 3


def test_a_spread_is_median_and_range():
    assert spread([3, 1, 2]) == {"median": 2, "lowest": 1, "highest": 3}


def test_a_ratio_says_how_many_times_as_fast_we_are():
    assert bench.compared(6.0, 2.0, "stock") == {"ours": 6.0, "stock": 2.0, "ratio": 3.0}


def test_a_share_is_of_the_rate_of_the_limit():
    found = bench.shares(
        {"product": 8.0, "custom": 2.0}, {"product": 2.0, "custom": 1.0}, "product"
    )
    assert found["product"] == {"GFLOP/s": 4.0, "share": 1.0}
    assert found["custom"] == {"GFLOP/s": 2.0, "share": 0.5}


def test_the_archive_reads_as_one_of_emnist_does(archive):
    data = load_data(source="emnist", archive=str(archive))
    assert len(data.train_labels) + len(data.valid_labels) == 2048 and len(data.test_labels) == 620


def test_training_is_compared_with_stock_fastai():
    found = bench.bench_training(["custom"], repeats=1, per_class=10)["custom"]
    assert list(found) == ["ours", "stock", "ratio"] and min(found.values()) > 0


def test_steps_and_augmentation_are_measured():
    found = bench.bench_steps(["custom"], repeats=1, size=64)
    assert set(found) == {"matrix product", "custom", "affine", "affine and warp", "erasing"}
    assert found["custom"]["GFLOP/s"] > 0 and found["erasing"]["part of custom's step"] > 0


def test_loading_is_compared_with_torchvision(archive):
    found = bench.bench_archive(archive, repeats=1)
    assert set(found) == {"ours", "torchvision"}
    assert found["ours"]["first load"] > found["ours"]["second load"] > 0
    rates = bench.bench_loader(archive, repeats=1, n=1024)["images/s"]
    assert list(rates) == ["ours", "torchvision", "ratio"] and min(rates.values()) > 0


def test_an_epoch_is_timed_with_its_memory(archive):
    found = bench.bench_epoch(archive)["custom"]
    assert found["seconds"] > 0 and 0.1 < found["peak memory, GB"] < 10


def test_the_mnist_recipes_run_once_per_seed(tmp_path):
    write_small_archive(tmp_path / "mnist.zip", "mnist")
    found = bench.bench_mnist(str(tmp_path / "mnist.zip"), seeds=2)
    assert set(found) == {"99.0 %", "99.5 %"} and found["99.0 %"]["seeds"] == 2
    accuracy = found["99.5 %"]["accuracy"]
    assert 0 <= accuracy["lowest"] <= accuracy["median"] <= accuracy["highest"] <= 1


def test_the_emnist_recipes_say_how_many_images_they_learned_from(archive):
    found = bench.bench_emnist(str(archive), seeds=1)
    assert list(found) == ["80 %", "85 %", "86 %"]
    n = len(load_data(source="emnist", archive=str(archive)).train_labels)
    assert {row["images"] for row in found.values()} == {n}
    assert found["86 %"]["images/s"] > 0 and 0 <= found["86 %"]["accuracy"]["median"] <= 1


def test_a_table_has_a_row_per_contestant_and_a_column_per_number():
    rows = {"99.0 %": {"seconds": {"median": 8.1234}}, "99.5 %": {"rate": 12345.6}}
    table = bench_table("MNIST", rows)
    assert [column.header for column in table.columns] == ["", "seconds median", "rate"]
    assert [list(column.cells) for column in table.columns[1:]] == [["8.123", ""], ["", "12,346"]]
