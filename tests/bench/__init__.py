"""How fast the pieces are, each against what one would use otherwise; `invoke bench` prints it.

Both sides of a comparison see the same images and take turns, in processes of their own, so that
neither a busy machine nor the settings of the other favours one of them. Every number is a median;
rates are per second.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench.clock import epoch_rate, in_turn, own_process, peak_memory, settle, spread, timed
from bench.rivals import (
    BYCLASS_TEST,
    BYCLASS_TRAIN,
    stock_rate,
    torchvision_load,
    torchvision_loader_rate,
    write_archive,
    write_pngs,
)
from lib.data import draw, load_data
from lib.data.classes import BYCLASS
from lib.files import ROOT

BATCH_SIZE = 512
MNIST_EPOCHS = {"99.0 %": 1, "99.5 %": 5}  # these and the recipe were chosen on validation images
MNIST_RECIPE = {
    "network": "custom",
    "batch_size": 256,
    "learning_rate": 6e-3,
    "augment": 1.0,
    "label_smoothing": 0.05,
}
# 85 and 86 % are what runs of the profile emnist have reached so; 80 % was not tried
EMNIST_RUNS = {"80 %": (15_000, 3), "85 %": (50_000, 4), "86 %": (0, 3)}  # images (0: all), epochs
EMNIST_RECIPE = {"network": "custom", "batch_size": 256, "learning_rate": 0.0175}
SEEDS = 5


def quiet_learner(data, **settings):
    """A learner that prints nothing, and its parameters."""
    from lib.params import TrainingParameters
    from lib.training.callbacks import PlainProgress
    from lib.training.learner import make_learner

    parameters = TrainingParameters(**settings)
    learner = make_learner(data, parameters)
    learner.remove_cb(PlainProgress)
    return learner, parameters


def compared(ours: float, rival: float, name: str) -> dict[str, float]:
    """Our rate, the rival's, and how many times as fast we are."""
    return {"ours": ours, name: rival, "ratio": ours / rival}


def shares(gflop: dict[str, float], seconds: dict[str, float], limit: str) -> dict[str, dict]:
    """GFLOP/s of everything, and as a share of the one that is the limit."""
    rates = {name: n / seconds[name] for name, n in gflop.items()}
    return {name: {"GFLOP/s": rate, "share": rate / rates[limit]} for name, rate in rates.items()}


def our_rate(network: str, per_class: int) -> float:
    """Our epoch, augmented, in the precision that suits the device."""
    data = load_data(per_class=per_class, test_per_class=1)
    return epoch_rate(quiet_learner(data, network=network, batch_size=BATCH_SIZE, augment=1.0)[0])


def measured(process: ProcessPoolExecutor, rate: Callable[..., float], *given) -> float:
    """What a function gives in another process."""
    return process.submit(rate, *given).result()


def bench_training(networks: list[str], repeats: int, per_class: int) -> dict:
    """Images per second of an epoch: ours, stock fastai's, and the ratio, per network."""
    data = load_data(per_class=per_class, test_per_class=1)
    rows = {}
    with tempfile.TemporaryDirectory() as folder, own_process() as ours, own_process() as stock:
        write_pngs(Path(folder), data.train_images, data.train_labels)
        for network in networks:
            contestants = {
                "ours": partial(measured, ours, our_rate, network, per_class),
                "stock": partial(measured, stock, stock_rate, network, folder),
            }
            rows[network] = compared(*in_turn(repeats, contestants).values(), "stock")
    return rows


def bench_steps(networks: list[str], repeats: int, size: int = 2048) -> dict:
    """Training steps beside a matrix product, GFLOP/s and share; augmentation beside a step.

    All are of the same precision. A step counts as three forward passes: one forward, one for the
    gradient of the inputs, one of the weights.
    """
    import torch
    import torch.nn.functional as F
    from fastai.torch_core import TensorImageBW, default_device
    from torchinfo import summary

    from lib.networks import Preparation, PreparedNetwork, make_network
    from lib.training.augment import RandomDistortion, RandomErasing
    from lib.training.learner import choose_precision, keep_freed_memory

    keep_freed_memory()
    device = default_device()
    precision = choose_precision("auto", device)
    left, right = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    images = TensorImageBW(
        torch.randint(0, 256, (BATCH_SIZE, 28, 28), dtype=torch.uint8, device=device)
    )
    labels = torch.randint(0, len(BYCLASS), (BATCH_SIZE,), device=device)

    def training_step(model, optimiser):
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
        optimiser.zero_grad()

    def seconds(step: Callable, times: int = 5) -> float:
        step()
        settle()
        return timed(lambda: ([step() for _ in range(times)], settle())) / times

    steps, gflop = {"matrix product": lambda: left @ right}, {"matrix product": 2 * size**3 / 1e9}
    changes = {
        "affine": RandomDistortion(1.0),
        "affine and warp": RandomDistortion(1.0, 0.7),
        "erasing": RandomErasing(0.3),
    }
    for network in networks:
        model = PreparedNetwork(make_network(network, len(BYCLASS)), Preparation(), precision)
        products = summary(model.network, (1, 1, 28, 28), verbose=0, device="cpu").total_mult_adds
        gflop[network] = 3 * 2 * products / 1e9 * BATCH_SIZE
        model.to(device).train()
        steps[network] = partial(training_step, model, torch.optim.AdamW(model.parameters()))
    steps |= {name: partial(change.encodes, images) for name, change in changes.items()}
    took = in_turn(repeats, {name: partial(seconds, step) for name, step in steps.items()})
    parts = {name: {"part of custom's step": took[name] / took["custom"]} for name in changes}
    return shares(gflop, took, "matrix product") | parts


def our_load(archive: str, folder: str) -> tuple[float, float, int]:
    """Seconds of our first and second load, and the bytes that both took beyond the libraries."""
    os.environ["HANDWRITING_DATA"] = folder
    before = peak_memory()
    first, second = (timed(lambda: load_data(source="emnist", archive=archive)) for _ in range(2))
    return first, second, peak_memory() - before


def bench_archive(archive: Path, repeats: int) -> dict:
    """Seconds of two loads of a ByClass-size archive, and peak memory as a multiple of it."""
    found = {"ours": [], "torchvision": []}
    for _ in range(repeats):
        for name, load in (("ours", our_load), ("torchvision", torchvision_load)):
            with tempfile.TemporaryDirectory() as folder, own_process() as process:
                found[name].append(process.submit(load, str(archive), folder).result())
    size = (BYCLASS_TRAIN + BYCLASS_TEST) * 28 * 28
    return {
        name: dict(
            zip(
                ("first load", "second load", "memory / data"),
                (
                    statistics.median(column) / scale
                    for column, scale in zip(zip(*rows), (1, 1, size))
                ),
            )
        )
        for name, rows in found.items()
    }


def our_loader_rate(archive: str, folder: str) -> float:
    """Images per second of our training batches, shuffled, not augmented."""
    from fastai.torch_core import default_device

    from lib.params import TrainingParameters
    from lib.training.batches import make_loaders

    os.environ["HANDWRITING_DATA"] = folder
    data = load_data(source="emnist", archive=archive)
    loader = make_loaders(data, TrainingParameters(batch_size=BATCH_SIZE), default_device()).train
    return len(loader) * BATCH_SIZE / timed(lambda: ([None for _ in loader], settle()))


def bench_loader(archive: Path, repeats: int, n: int = 20_480) -> dict:
    """Images per second of the loader alone: ours over all, torchvision's over n of them."""
    with tempfile.TemporaryDirectory() as folder, own_process() as ours, own_process() as rival:
        given = str(archive), folder
        contestants = {
            "ours": partial(measured, ours, our_loader_rate, *given),
            "theirs": partial(measured, rival, torchvision_loader_rate, *given, n, BATCH_SIZE),
        }
        rates = in_turn(repeats, contestants)
    return {"images/s": compared(*rates.values(), "torchvision")}


def training_run(
    archive: str, split: str, epochs: int, seed: int, recipe: dict, n: int = 0
) -> tuple[float, float]:
    """Seconds of training, without validation, and test accuracy, predicted from one view.

    n: images to train on, drawn with the seed; 0: all.
    """
    from fastai.callback.core import Callback, CancelValidException

    from lib.training.evaluate import measure, predict_probabilities

    class WithoutValidation(Callback):
        def before_validate(self):
            raise CancelValidException

    data = draw(load_data(source="emnist", split=split, archive=archive), n, seed)
    learner, parameters = quiet_learner(data, epochs=epochs, seed=seed, **recipe)
    with learner.no_bar(), learner.no_logging(), learner.added_cbs(WithoutValidation()):
        seconds = timed(lambda: (learner.fit_one_cycle(epochs, parameters.learning_rate), settle()))
    probabilities = predict_probabilities(learner.model, data.test_images)
    return seconds, measure(probabilities, data.test_labels)["accuracy"]


def over_seeds(archive: str, split: str, recipe: dict, epochs: int, seeds: int, n: int = 0) -> dict:
    """Median and range of `training_run` for some seeds."""
    runs = [training_run(archive, split, epochs, seed, recipe, n) for seed in range(seeds)]
    seconds, accuracies = map(spread, zip(*runs))
    return {"epochs": epochs, "seeds": seeds, "seconds": seconds, "accuracy": accuracies}


def bench_mnist(archive: str, seeds: int = SEEDS) -> dict:
    """Training on MNIST that aims at 99.0 and 99.5 %: seconds and accuracy, median and range."""
    return {
        aim: over_seeds(archive, "mnist", MNIST_RECIPE, epochs, seeds)
        for aim, epochs in MNIST_EPOCHS.items()
    }


def bench_emnist(archive: str, seeds: int = SEEDS) -> dict:
    """Training on ByClass that aims at 80, 85 and 86 % of its test part: the same, and images/s."""
    rows, n_all = {}, len(load_data(source="emnist", archive=archive).train_labels)
    for aim, (n, epochs) in EMNIST_RUNS.items():
        found = over_seeds(archive, "byclass", EMNIST_RECIPE, epochs, seeds, n)
        images = min(n or n_all, n_all)
        rate = images * epochs / found["seconds"]["median"]
        rows[aim] = {"images": images, **found, "images/s": rate}
    return rows


def bench_generator(repeats: int, per_class: int = 100) -> dict:
    """Generated characters per second."""
    from lib.data import strokes

    strokes.generate(1)
    n = per_class * len(BYCLASS)
    return {
        "ours": in_turn(
            repeats, {"characters/s": lambda: n / timed(lambda: strokes.generate(per_class))}
        )
    }


def byclass_epoch(archive: str, folder: str) -> tuple[float, float]:
    """Seconds of an augmented epoch of ByClass's size, and peak memory in GB, with libraries."""
    os.environ["HANDWRITING_DATA"] = folder
    data = load_data(source="emnist", archive=archive)
    rate = epoch_rate(quiet_learner(data, network="custom", batch_size=BATCH_SIZE, augment=1.0)[0])
    return len(data.train_labels) / rate, peak_memory() / 1e9


def bench_epoch(archive: Path) -> dict:
    """Seconds and peak memory of one ByClass-size epoch of the custom network."""
    with tempfile.TemporaryDirectory() as folder, own_process() as process:
        seconds, gigabytes = process.submit(byclass_epoch, str(archive), folder).result()
    return {"custom": {"seconds": seconds, "peak memory, GB": gigabytes}}


FIRST_STEP = """
from lib.data import load_data
from lib.params import TrainingParameters
from lib.training.learner import make_learner
learner = make_learner(load_data(per_class=10, test_per_class=1), TrainingParameters(batch_size=64))
learner.model.train()
xb, yb = next(iter(learner.dls.train))
learner.loss_func(learner.model(xb), yb).backward()
learner.create_opt()
learner.opt.step()
"""


def bench_start(repeats: int) -> dict:
    """Seconds from the start of a fresh process to the end of its first training step."""

    def start():
        subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST_STEP], cwd=ROOT, check=True)

    start()  # draws the characters, which later ones read
    return {"ours": in_turn(repeats, {"seconds": lambda: timed(start)})}


def run(real: str = "", repeats: int = 5, say: Callable[[str], None] = print) -> dict[str, dict]:
    """Every measurement under the name of its function, with the machine's description.

    MNIST and EMNIST only where an archive of both is given. `say` is told what is going on.
    """
    from fastai.torch_core import default_device

    from lib.models import versions
    from lib.runs import device_name
    from lib.training.learner import choose_precision

    device, networks = default_device(), ["lenet", "custom", "resnet"]
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "gzip.zip"
        say("writing an archive of ByClass's size")
        write_archive(archive)
        arguments = {
            bench_training: (networks, repeats, 100),
            bench_steps: (networks, repeats),
            bench_loader: (archive, repeats),
            bench_archive: (archive, repeats),
            bench_epoch: (archive,),
            bench_generator: (repeats,),
            bench_start: (repeats,),
        } | ({bench_mnist: (real,), bench_emnist: (real,)} if real else {})
        results = {"machine": {"device": device_name(device), "precision": precision, **versions()}}
        for part, given in arguments.items():
            say(part.__doc__.splitlines()[0])
            results[part.__name__.removeprefix("bench_")] = part(*given)
    return results
