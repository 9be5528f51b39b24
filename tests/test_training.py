import platform
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from fastai.interpret import ClassificationInterpretation

from lib.data import CharacterData, load_data
from lib.errors import InputError
from lib.files import RATES, write_json
from lib.params import TrainingParameters
from lib.training.batches import Characters, make_loaders, nearby_order
from lib.training.callbacks import AverageWeights
from lib.training.evaluate import (
    history,
    measure,
    measure_run,
    predict_parts,
    predict_probabilities,
    shifted,
)
from lib.training.learner import (
    choose_learning_rate,
    choose_precision,
    find_learning_rate,
    fit,
    fit_preparation,
    make_learner,
    rate_conditions,
    triangular2,
)


@pytest.fixture(scope="module")
def data() -> CharacterData:
    return load_data(per_class=10, test_per_class=2)


def trained(data, **settings):
    parameters = TrainingParameters(**{"epochs": 1, "precision": "float32"} | settings)
    learner = make_learner(data, parameters)
    return learner, parameters, fit(learner, parameters, 1e-3)


def weights(learner):
    return torch.cat([parameter.detach().flatten() for parameter in learner.model.parameters()])


@pytest.mark.parametrize("network", ["lenet", "custom", "resnet"])
def test_a_network_memorises_one_batch(data, network):
    learner = make_learner(data, TrainingParameters(network=network))
    xb, yb = data.train_images[:20], torch.as_tensor(data.train_labels[:20])
    optimiser = torch.optim.Adam(learner.model.parameters(), 1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(
            learner.model.train()(torch.from_numpy(np.array(xb))), yb
        ).backward()
        optimiser.step()
    assert (predict_probabilities(learner.model, xb).argmax(axis=1) == yb.numpy()).mean() > 0.9


def test_the_same_seed_trains_the_same_weights(data):
    assert torch.equal(weights(trained(data, seed=3)[0]), weights(trained(data, seed=3)[0]))


def test_another_seed_trains_other_weights(data):
    assert not torch.equal(weights(trained(data, seed=3)[0]), weights(trained(data, seed=4)[0]))


def test_the_finder_repeats_itself_and_leaves_every_random_state_alone(data):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first, second = (
        find_learning_rate(data, TrainingParameters(finder_steps=40)) for _ in range(2)
    )
    assert first == second
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2] and torch.equal(
        torch.get_rng_state(), states[2]
    )


def test_a_rate_that_is_given_is_taken(data, tmp_path):
    assert choose_learning_rate(data, TrainingParameters(learning_rate=0.5), tmp_path) == 0.5


def test_a_rate_that_the_finder_wrote_is_taken(data, tmp_path):
    write_json(
        tmp_path / RATES,
        {"custom": {"suggested": 0.25, "conditions": rate_conditions(data, TrainingParameters())}},
    )
    assert choose_learning_rate(data, TrainingParameters(), tmp_path) == 0.25


def test_a_rate_found_for_another_batch_size_is_not_taken(data, tmp_path):
    conditions = rate_conditions(data, TrainingParameters(batch_size=500))
    write_json(tmp_path / RATES, {"custom": {"suggested": 0.25, "conditions": conditions}})
    assert choose_learning_rate(data, TrainingParameters(finder_steps=40), tmp_path) != 0.25


def test_triangular2_halves_its_second_peak():
    assert triangular2(0.25, 0, 1) == pytest.approx(1) and triangular2(0.75, 0, 1) == pytest.approx(
        0.5
    )
    assert triangular2(0, 0.1, 1) == pytest.approx(0.1) and triangular2(1, 0.1, 1) == pytest.approx(
        0.1, abs=1e-6
    )


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular2", "constant"])
def test_the_rate_follows_the_schedule(data, schedule):
    learner, _, _ = trained(data, schedule=schedule, batch_size=8)
    rates = learner.recorder.hps["lr"]
    expected = {"one_cycle": (1e-3, 1e-5), "triangular2": (1e-3, 2e-4), "constant": (1e-3, 1e-3)}[
        schedule
    ]
    assert max(rates) == pytest.approx(expected[0], rel=0.1) and rates[-1] <= expected[1] * 1.001


def test_the_history_has_a_row_per_epoch(data):
    learner, _, _ = trained(data, epochs=2)
    assert history(learner)["epoch"].tolist() == [1, 2]


def test_early_stopping_ends_a_run_that_no_longer_improves(data):
    learner, _, _ = trained(data, epochs=30, patience=1, schedule="constant")
    assert len(learner.recorder.values) < 30


def test_an_absurd_rate_is_reported_in_one_sentence(data):
    learner = make_learner(data, TrainingParameters(network="lenet", epochs=1, precision="float32"))
    learner.model.network.classifier[-1].weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="no longer a number"):
        fit(learner, TrainingParameters(network="lenet", epochs=1), 1e-3)


def test_training_batches_are_shuffled_and_every_image_comes_once(data):
    loader = make_loaders(data, TrainingParameters(batch_size=62)).train
    seen = torch.cat([labels for _, labels in loader])
    assert not torch.equal(seen, torch.as_tensor(data.train_labels[: len(seen)]))
    assert len(seen) == len(data.train_labels) // 62 * 62 and seen.bincount().max() <= 9


def test_validation_keeps_its_order(data):
    assert torch.equal(
        torch.cat([labels for _, labels in make_loaders(data, TrainingParameters()).valid]),
        torch.as_tensor(data.valid_labels),
    )


def test_augmentation_changes_training_batches_only(data):
    loaders = make_loaders(data, TrainingParameters(augment=1.0))
    assert torch.equal(loaders.valid.one_batch()[0], torch.as_tensor(data.valid_images))
    originals = {image.tobytes() for image in data.train_images}
    assert not any(image.numpy().tobytes() in originals for image in loaders.train.one_batch()[0])


def test_a_loader_on_a_device_gives_the_same_batches(data):
    images, labels = data.train_images, data.train_labels
    parts = [
        Characters(images, labels, data.class_names, 0, device)
        for device in (None, torch.device("cpu"))
    ]
    rows = np.array([5, 2, 9])
    for here, there in zip(*(part[rows] for part in parts)):
        assert torch.equal(here, there) and type(here) is type(there)


def test_a_part_larger_than_memory_is_shuffled_among_neighbours(data, monkeypatch):
    order = nearby_order(1000, np.random.default_rng(0), block=10, blocks=5)
    assert sorted(order) == list(range(1000)) and len(set(order[:50] // 10)) == 5
    assert sorted(order[:50]) != list(order[:50])
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 1000}))
    monkeypatch.setattr("lib.training.batches.nearby_order", lambda n, rng: np.arange(n))
    labels = torch.cat(
        [labels for _, labels in make_loaders(data, TrainingParameters(batch_size=62)).train]
    )
    assert torch.equal(labels, torch.as_tensor(data.train_labels[: len(labels)]))


def test_the_average_of_the_weights_is_what_remains(data):
    learner, _, _ = trained(data, average=0.9)
    averages = [callback for callback in learner.cbs if isinstance(callback, AverageWeights)]
    assert len(averages) == 1 and not torch.equal(weights(learner), weights(trained(data)[0]))
    measured = measure(predict_probabilities(learner.model, data.valid_images), data.valid_labels)
    assert learner.recorder.values[-1][2] == pytest.approx(
        measured["accuracy"]
    )  # validation saw the average


def test_an_average_is_the_weighted_mean_of_the_weights_after_each_step(data):
    learner = make_learner(
        data, TrainingParameters(precision="float32", average=0.5, batch_size=200)
    )
    seen = []

    class Watch(Callback):
        order = 0

        def after_batch(self):
            if self.training:
                seen.append(weights(learner).clone())

    learner.add_cb(Watch())
    fit(learner, TrainingParameters(epochs=1), 1e-3)
    expected = seen[0]
    for steps, after in enumerate(seen[1:], 1):
        decay = min(0.5, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * after
    assert torch.allclose(weights(learner), expected, atol=1e-6)


def test_views_are_the_image_and_its_neighbours(data):
    image = torch.as_tensor(np.array(data.test_images[:1]))
    assert torch.equal(shifted(image, 0, 0), image)
    assert (
        torch.equal(shifted(image, 1, -1)[0, 1:, :-1], image[0, :-1, 1:])
        and shifted(image, 1, 0)[0, 0].sum() == 0
    )


def test_probabilities_of_several_views_are_their_mean(data):
    model = make_learner(data, TrainingParameters(precision="float32")).model
    images = torch.as_tensor(np.array(data.test_images[:4]))
    each = [
        predict_probabilities(model, shifted(images, *shift).numpy())
        for shift in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    ]
    assert np.allclose(
        predict_probabilities(model, images.numpy(), views=5), np.mean(each, axis=0), atol=1e-6
    )


def test_two_processes_train_one_network(data, capsys):
    parameters = TrainingParameters(
        precision="float32", batch_size=60, epochs=3, processes=2, average=0.5
    )
    learner = make_learner(data, parameters)
    before = weights(learner)
    assert fit(learner, parameters, 5e-3) > 0 and not torch.equal(before, weights(learner))
    assert len(history(learner)) == 3 and len(learner.recorder.losses) == 3 * (
        len(data.train_labels) // 60
    )
    assert capsys.readouterr().out.count("epoch 3/3") == 1
    measured = measure(predict_probabilities(learner.model, data.valid_images), data.valid_labels)
    assert learner.recorder.values[-1][2] == pytest.approx(measured["accuracy"], abs=0.02)
    assert measured["accuracy"] > 0.2


def test_two_processes_bring_back_their_best_weights(data):
    parameters = TrainingParameters(
        precision="float32", batch_size=60, epochs=1, processes=2, patience=1
    )
    learner = make_learner(data, parameters)
    fit(learner, parameters, 5e-3)
    assert len(history(learner)) == 1


def test_a_process_that_fails_is_reported_in_one_sentence(data):
    parameters = TrainingParameters(processes=2, precision="float32")
    learner = make_learner(data, parameters)
    learner.data_parameters = data.parameters.model_copy(
        update={"source": "folder", "folder": "nowhere"}
    )
    with pytest.raises(InputError, match="with 2 processes failed: .*nowhere"):
        fit(learner, parameters, 1e-3)


def test_what_fastai_offers_works_on_a_learner(data):
    import fastai.vision.learner  # noqa: F401  as `from fastai.vision.all import *` does

    learner, _, _ = trained(data)
    assert learner.lr_find(num_it=40, show_plot=False).valley > 0
    interpretation = ClassificationInterpretation.from_learner(learner)
    assert interpretation.confusion_matrix().sum() == len(data.valid_labels)
    assert all(actual != predicted for actual, predicted, _ in interpretation.most_confused())
    interpretation.plot_top_losses(4)
    interpretation.show_results([3, 5])
    learner.show_results(max_n=4)
    probabilities, labels = learner.get_preds()
    assert probabilities.shape == (len(data.valid_labels), 62) and torch.equal(
        labels, torch.as_tensor(data.valid_labels)
    )


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back at once"
)
def test_freed_memory_is_kept_for_the_next_batch():
    code = """if True:
        import resource, torch
        from lib.training.learner import keep_freed_memory
        keep_freed_memory()
        torch.ones(2**24)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5): torch.ones(2**24)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    faults = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert (
        int(faults) <= 2 * 16_384
    )  # the pages of 64 MiB; given back and asked for anew, five times as many


def test_a_preparation_does_not_fail_on_blank_images():
    assert torch.isfinite(
        fit_preparation(np.zeros((5, 28, 28), dtype=np.uint8))(
            torch.zeros(1, 28, 28, dtype=torch.uint8)
        )
    ).all()


def test_probabilities_of_an_image_do_not_depend_on_its_neighbours(data):
    learner, _, _ = trained(data)
    together = predict_probabilities(learner.model, data.test_images)
    alone = predict_probabilities(learner.model, data.test_images[7:8])
    assert np.allclose(together[7], alone[0], atol=1e-4)


def test_float16_is_refused_where_gradients_are_not_scaled():
    with pytest.raises(InputError, match="needs a CUDA"):
        choose_precision("float16", torch.device("cpu"))


def test_float32_is_taken_when_asked_for():
    assert choose_precision("float32", torch.device("cpu")) == torch.float32


def test_measuring_counts_what_is_right_and_averages_the_loss():
    measured = measure(np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([0, 1]))
    assert measured["accuracy"] == 0.5 and measured["loss"] == pytest.approx(
        -(np.log(0.5) + np.log(0.3)) / 2
    )


def test_metrics_hold_the_results_with_their_conditions(data):
    learner, parameters, seconds = trained(data)
    metrics = measure_run(
        learner, data, parameters, 1e-3, seconds, predict_parts(learner.model, data)
    )
    required = """network seed schedule epochs parameters train_accuracy valid_accuracy test_accuracy seconds device dataset split
        n_train n_test torch fastai"""
    assert set(required.split()) <= set(metrics) and metrics["n_test"] == 124
