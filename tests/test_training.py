"""Batches, what a fit does with its parameters, and how its result is measured."""

import platform
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import trainings
from fastai.callback.core import Callback
from trainings import RATE, settings, trained, weights

from lib import training
from lib.data import CharacterData, load_data
from lib.errors import InputError
from lib.files import RATES, write_json
from lib.params import TrainingParameters
from lib.running.notebook import quiet_environment
from lib.training import history, make_learner, predict_parts, predict_probabilities
from lib.training.batches import ArrayLoader, Characters, make_loaders, nearby_order
from lib.training.evaluate import measure, shifted, without_mean
from lib.training.learner import choose_precision, fit_preparation


@pytest.fixture(scope="module")
def data() -> CharacterData:
    return load_data(per_class=10, test_per_class=2)


@pytest.fixture(scope="module")
def digits() -> CharacterData:
    return load_data(per_class=10, test_per_class=2, split="digits")


# ---- fitting ----


@pytest.mark.parametrize(
    "network", ["lenet", "custom", pytest.param("resnet", marks=pytest.mark.slow)]
)
def test_a_network_memorises_one_batch(data, network):
    model = make_learner(data, TrainingParameters(network=network)).model.train()
    xb, yb = torch.tensor(data.train_images[:20]), torch.tensor(data.train_labels[:20])
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(xb), yb).backward()
        optimiser.step()
    answers = predict_probabilities(model, xb.numpy()).argmax(axis=1)
    assert (answers == yb.numpy()).mean() > 0.9


def test_the_same_seed_trains_the_same_weights_and_another_others(digits):
    first, again, other = (weights(trained(digits, epochs=1, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    "schedule, last",
    [
        ("one_cycle", RATE / 100),
        ("triangular2", RATE / 9),
        ("cosine", RATE / 100),
        ("constant", RATE),
    ],
)
def test_the_rate_follows_the_schedule(digits, schedule, last):
    learn = trained(digits, epochs=2, schedule=schedule, batch_size=8)
    rates = learn.recorder.hps["lr"]
    assert max(rates) == pytest.approx(RATE, rel=0.1) and rates[-1] <= last * 1.001


def test_triangular2_halves_its_second_peak():
    rate = training.rate_schedule("triangular2", 1.0).scheds["lr"]
    heights = [float(rate(position)) for position in (0, 0.25, 0.5, 0.75, 1)]
    assert heights == pytest.approx([0.01, 1, 0.01, 0.505, 0.01])


def test_cosine_only_falls_and_a_constant_rate_stays_to_the_bit():
    falls = training.rate_schedule("cosine", 0.3).scheds["lr"]
    stays = training.rate_schedule("constant", 0.3).scheds["lr"]
    assert [float(falls(at)) for at in (0, 0.5, 1)] == pytest.approx([0.3, 0.15, 0])
    assert {float(stays(at)) for at in np.linspace(0, 1, 50)} == {0.3}


def test_triangular2_turns_after_half_cycles_of_any_length():
    rate = training.rate_schedule("triangular2", 1.0, 1 / 3).scheds["lr"]
    heights = [float(rate(position)) for position in (1 / 6, 1 / 3, 2 / 3, 1)]
    assert heights == pytest.approx([0.505, 1, 0.01, 0.505])


@pytest.mark.parametrize(
    "optimiser, kept", [("adam", {"grad_avg", "sqr_avg"}), ("rmsprop", {"sqr_avg"})]
)
def test_the_optimiser_is_the_one_that_is_asked_for(digits, optimiser, kept):
    learn = trained(digits, epochs=1, optimiser=optimiser, schedule="constant")
    (state, *_) = learn.opt.state_dict()["state"]
    assert {name for name in state if name.endswith("avg")} == kept


def test_the_training_loss_is_measured_as_validation_measures_its_own(digits):
    """On all images here, without dropout: what a prediction afterwards gives."""
    learn = trained(digits, epochs=2)
    found = measure(predict_probabilities(learn.model, digits.train_images), digits.train_labels)
    assert history(learn)["train_loss"].iloc[-1] == pytest.approx(found["loss"], rel=1e-3)


def test_without_its_mean_a_network_is_given_brighter_images_and_stays_as_it_was(digits):
    model = make_learner(digits, settings()).model
    image = torch.from_numpy(np.array(digits.test_images[:1])).to(model.preparation.mean.device)
    added = without_mean(model).preparation(image) - model.preparation(image)
    expected = model.preparation.mean / model.preparation.std
    assert torch.allclose(added[0, 0], expected, atol=1e-5) and expected.max() > 0


def test_the_history_has_a_row_per_epoch_with_the_rate_at_its_end(digits):
    learn = trained(digits, epochs=2)
    table, rates = history(learn), learn.recorder.hps["lr"]
    assert table["epoch"].tolist() == [1, 2]
    assert table["learning_rate"].tolist() == [rates[len(learn.dls.train) - 1], rates[-1]]


def test_a_loss_that_is_no_number_is_reported_in_the_sentence_alone(digits):
    learn = make_learner(digits, settings())
    learn.model.network.classifier[-1].weight.data.fill_(float("nan"))
    with pytest.raises(InputError) as caught:
        trainings.fit(learn, settings())
    assert str(caught.value).startswith("The loss is no longer a number: learning_rate 0.00")
    assert "\n" not in str(caught.value) and str(caught.value).endswith("choose a lower one.")


# ---- early stopping and average weights ----


class Watch(Callback):
    """Keeps the weights after each step or, with `epochs`, after each epoch."""

    order = 0

    def __init__(self, epochs=False):
        self.epochs, self.seen = epochs, []

    def after_batch(self):
        if self.training and not self.epochs:
            self.seen.append(weights(self.learn))

    def after_epoch(self):
        if self.epochs:
            self.seen.append(weights(self.learn))


def test_early_stopping_brings_back_the_weights_of_the_best_epoch(digits):
    watch = Watch(epochs=True)
    learn = trained(digits, epochs=40, patience=2, rate=0.03, schedule="constant", cbs=[watch])
    losses = [row[1] for row in learn.recorder.values]
    best = int(np.argmin(losses))
    assert 1 <= best < len(losses) - 1 < 39  # neither the first epoch, nor the last, nor all 40
    assert torch.equal(weights(learn), watch.seen[best])
    assert not torch.equal(weights(learn), watch.seen[-1])


def test_the_average_of_the_weights_is_validated_and_remains(digits):
    learn = trained(digits, average=0.9)
    assert not torch.equal(weights(learn), weights(trained(digits)))
    answers = predict_probabilities(learn.model, digits.valid_images)
    accuracy = measure(answers, digits.valid_labels)["accuracy"]
    assert learn.recorder.values[-1][2] == pytest.approx(accuracy)


def test_an_average_is_the_weighted_mean_of_the_weights_after_each_step(digits):
    watch = Watch()
    learn = trained(digits, average=0.5, epochs=2, cbs=[watch])
    expected, counts = watch.seen[0], watch.seen[0] == 1  # of batches seen: not averaged
    for steps, after in enumerate(watch.seen[1:], 1):
        decay = min(0.5, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * after
    assert len(watch.seen) == 2 * len(learn.dls.train)
    assert torch.allclose(weights(learn)[~counts], expected[~counts], atol=1e-5)


# ---- the learning rate ----


def test_the_finder_repeats_itself(digits):
    found = [
        make_learner(digits, settings()).lr_find(
            num_it=40, suggest_funcs=training.suggested, show_plot=False
        )
        for _ in range(2)
    ]
    assert found[0].suggested == found[1].suggested > 0


def test_no_rate_is_suggested_that_is_far_too_high():
    rates = torch.logspace(-7, 1, 100)
    falling = (rates - 1).abs()  # the loss is lowest at a rate of 1
    assert training.suggested(rates, falling, 100)[0] == training.learner.HIGHEST_RATE
    assert training.suggested(rates, (rates - 0.03).abs(), 100)[0] < 0.03


def test_nothing_is_taken_where_02_has_found_nothing(digits, tmp_path):
    assert training.found_rate(tmp_path, digits, settings()) is None


@pytest.mark.parametrize("batch_size, taken", [(16, 0.25), (500, None)])
def test_a_rate_that_02_found_is_taken_for_its_batch_size_alone(
    digits, tmp_path, batch_size, taken
):
    conditions = training.rate_conditions(digits, settings(batch_size=batch_size))
    found = {"custom": {"suggested": 0.25, "conditions": conditions}}
    write_json(tmp_path / RATES, found)
    assert training.found_rate(tmp_path, digits, settings()) == taken


# ---- batches ----


def labels_of(loader):
    return torch.cat([torch.as_tensor(labels) for _, labels in loader])


def test_training_batches_are_shuffled_and_every_image_comes_once(data):
    seen = labels_of(make_loaders(data, TrainingParameters(batch_size=62)).train)
    assert not torch.equal(seen, torch.tensor(data.train_labels[: len(seen)]))
    assert len(seen) == len(data.train_labels) // 62 * 62 and seen.bincount().max() <= 9


def test_validation_keeps_its_order(data):
    seen = labels_of(make_loaders(data, TrainingParameters()).valid)
    assert torch.equal(seen, torch.tensor(data.valid_labels))


def test_augmentation_changes_training_batches_only(data):
    loaders = make_loaders(data, TrainingParameters(augment=1.0))
    assert torch.equal(loaders.valid.one_batch()[0], torch.tensor(data.valid_images))
    originals = {image.tobytes() for image in data.train_images}
    assert not any(image.numpy().tobytes() in originals for image in loaders.train.one_batch()[0])


def test_a_part_on_a_device_gives_the_same_batches(data):
    images, labels = data.train_images, data.train_labels
    devices = None, torch.device("cpu")
    parts = [Characters(images, labels, data.class_names, 0, device) for device in devices]
    rows = np.array([5, 2, 9])
    for here, there in zip(*(part[rows] for part in parts)):
        assert torch.equal(here, there) and type(here) is type(there)


def test_a_batch_is_shown_with_its_class_names(digits):
    loader = make_loaders(digits, settings()).train
    loader.show_batch(max_n=4)
    titles = [ax.get_title() for ax in plt.gcf().axes]
    plt.close("all")
    assert len(titles) == 4 and set(titles) <= set(digits.class_names)


def test_rows_of_a_large_file_are_shuffled_among_neighbours():
    order = nearby_order(1000, np.random.default_rng(0), block=10, blocks=5)
    assert sorted(order) == list(range(1000)) and len(set(order[:50] // 10)) == 5
    assert sorted(order[:50]) != list(order[:50])


@pytest.mark.parametrize("memory, near", [(1000, True), (1e12, False)])
def test_only_a_part_larger_than_memory_is_read_in_stretches(memory, near):
    images = np.zeros((600_000, 1), np.uint8)
    part = Characters(images, np.arange(600_000), [], 0)
    order = ArrayLoader(part, bs=64, shuffle=True, memory=memory).get_idxs()
    assert (np.unique(order[:100_000] // 1024).size < 300) == near


# ---- predicting and measuring ----


def test_views_are_the_image_and_its_neighbours(data):
    image = torch.tensor(data.test_images[:1])
    assert torch.equal(shifted(image, 0, 0), image) and shifted(image, 1, 0)[0, 0].sum() == 0
    assert torch.equal(shifted(image, 1, -1)[0, 1:, :-1], image[0, :-1, 1:])


def test_probabilities_of_several_views_are_their_mean(data):
    model = make_learner(data, settings()).model
    images = torch.tensor(data.test_images[:4])
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    each = [predict_probabilities(model, shifted(images, *shift).numpy()) for shift in shifts]
    mean = predict_probabilities(model, images.numpy(), views=5)
    assert np.allclose(mean, np.mean(each, axis=0), atol=1e-6)


def test_probabilities_of_an_image_do_not_depend_on_its_neighbours(digits):
    model = trained(digits, epochs=1).model
    together = predict_probabilities(model, digits.test_images)
    alone = predict_probabilities(model, digits.test_images[7:8])
    assert np.allclose(together[7], alone[0], atol=1e-4)


def test_what_is_predicted_is_what_half_precision_can_keep(digits):
    predictions = predict_parts(make_learner(digits, settings()).model, digits)
    labels, probabilities = predictions["test"]
    assert np.array_equal(labels, digits.test_labels) and predictions.keys() == {"valid", "test"}
    assert np.array_equal(probabilities, probabilities.astype(np.float16).astype(np.float32))


def test_measuring_counts_what_is_right_and_averages_the_loss():
    measured = measure(np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([0, 1]))
    assert measured["accuracy"] == 0.5
    assert measured["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.3)) / 2)


def test_metrics_hold_the_results_with_their_conditions(digits):
    learn = trained(digits, epochs=1)
    predictions = predict_parts(learn.model, digits)
    metrics = training.measure_run(learn, digits, settings(epochs=1), RATE, 2.0, predictions)
    required = """network seed schedule epochs epochs_run parameters train_accuracy valid_accuracy
        test_accuracy test_loss seconds device dataset split n_train n_valid torch fastai"""
    assert set(required.split()) <= set(metrics)
    assert (metrics["n_test"], metrics["learning_rate"]) == (20, RATE)


# ---- the machine ----


def test_float16_is_refused_where_gradients_are_not_scaled():
    with pytest.raises(InputError, match="needs a CUDA"):
        choose_precision("float16", torch.device("cpu"))


def test_float32_is_taken_when_asked_for():
    assert choose_precision("float32", torch.device("cpu")) == torch.float32


def test_a_preparation_does_not_fail_on_blank_images():
    preparation = fit_preparation(np.zeros((5, 28, 28), dtype=np.uint8))
    assert torch.isfinite(preparation(torch.zeros(1, 28, 28, dtype=torch.uint8))).all()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back")
@pytest.mark.parametrize("in_notebook", [False, True])
def test_freed_memory_is_kept_for_the_next_batch(in_notebook):
    code = f"""if True:
        import resource, torch
        from lib.training.learner import keep_freed_memory
        {in_notebook} or keep_freed_memory()
        torch.ones(2**24)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5): torch.ones(2**24)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    command = [sys.executable, "-c", code]
    how = {"capture_output": True, "text": True, "check": True}
    faults = subprocess.run(command, env=quiet_environment() if in_notebook else None, **how).stdout
    assert int(faults) <= 2 * 16_384  # the pages of 64 MiB; asked for anew, five times as many
