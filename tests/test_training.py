import random

import numpy as np
import pytest
import torch

from lib.data import CharacterData, load_data
from lib.errors import InputError
from lib.loaders import RandomAffine, TensorImageBW, make_loaders
from lib.params import TrainingParameters
from lib.files import RATES, write_json
from lib.training import (
    choose_learning_rate, choose_precision, find_learning_rate, fit, fit_preparation, history, make_learner, measure, measure_run,
    predict_probabilities, rate_conditions, triangular2,
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
        torch.nn.functional.cross_entropy(learner.model.train()(torch.from_numpy(np.array(xb))), yb).backward()
        optimiser.step()
    assert (predict_probabilities(learner.model, xb).argmax(axis=1) == yb.numpy()).mean() > 0.9


def test_the_same_seed_trains_the_same_weights(data):
    assert torch.equal(weights(trained(data, seed=3)[0]), weights(trained(data, seed=3)[0]))


def test_another_seed_trains_other_weights(data):
    assert not torch.equal(weights(trained(data, seed=3)[0]), weights(trained(data, seed=4)[0]))


def test_the_finder_repeats_itself_and_leaves_every_random_state_alone(data):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first, second = (find_learning_rate(data, TrainingParameters(finder_steps=40)) for _ in range(2))
    assert first == second
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2] and torch.equal(torch.get_rng_state(), states[2])


def test_a_rate_that_is_given_is_taken(data, tmp_path):
    assert choose_learning_rate(data, TrainingParameters(learning_rate=0.5), tmp_path) == 0.5


def test_a_rate_that_the_finder_wrote_is_taken(data, tmp_path):
    write_json(tmp_path / RATES, {"custom": {"suggested": 0.25, "conditions": rate_conditions(data, TrainingParameters())}})
    assert choose_learning_rate(data, TrainingParameters(), tmp_path) == 0.25


def test_a_rate_found_for_another_batch_size_is_not_taken(data, tmp_path):
    conditions = rate_conditions(data, TrainingParameters(batch_size=500))
    write_json(tmp_path / RATES, {"custom": {"suggested": 0.25, "conditions": conditions}})
    assert choose_learning_rate(data, TrainingParameters(finder_steps=40), tmp_path) != 0.25


def test_triangular2_halves_its_second_peak():
    assert triangular2(0.25, 0, 1) == pytest.approx(1) and triangular2(0.75, 0, 1) == pytest.approx(0.5)
    assert triangular2(0, 0.1, 1) == pytest.approx(0.1) and triangular2(1, 0.1, 1) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular2", "constant"])
def test_the_rate_follows_the_schedule(data, schedule):
    learner, _, _ = trained(data, schedule=schedule, batch_size=8)
    rates = learner.recorder.hps["lr"]
    expected = {"one_cycle": (1e-3, 1e-5), "triangular2": (1e-3, 2e-4), "constant": (1e-3, 1e-3)}[schedule]
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
    loader = make_loaders(data, batch_size=62).train
    seen = torch.cat([labels for _, labels in loader])
    assert not torch.equal(seen, torch.as_tensor(data.train_labels[:len(seen)]))
    assert len(seen) == len(data.train_labels) // 62 * 62 and seen.bincount().max() <= 9


def test_validation_keeps_its_order(data):
    assert torch.equal(torch.cat([labels for _, labels in make_loaders(data).valid]), torch.as_tensor(data.valid_labels))


def test_augmentation_changes_training_batches_only(data):
    loaders = make_loaders(data, augment=1.0)
    assert torch.equal(loaders.valid.one_batch()[0], torch.as_tensor(data.valid_images))
    originals = {image.tobytes() for image in data.train_images}
    assert not any(image.numpy().tobytes() in originals for image in loaders.train.one_batch()[0])


def test_augmentation_is_small(data):
    torch.manual_seed(0)
    images = torch.as_tensor(np.array(data.train_images[:200]))
    moved = RandomAffine(1.0).encodes(TensorImageBW(images))
    assert moved.dtype == torch.uint8 and 0.8 < moved.float().mean() / images.float().mean() < 1.2


def test_augmentation_of_strength_0_is_no_change():
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.equal(RandomAffine(0.0).encodes(TensorImageBW(images)), images)


def test_a_preparation_does_not_fail_on_blank_images():
    assert torch.isfinite(fit_preparation(np.zeros((5, 28, 28), dtype=np.uint8))(torch.zeros(1, 28, 28, dtype=torch.uint8))).all()


def test_probabilities_of_an_image_do_not_depend_on_its_neighbours(data):
    learner, _, _ = trained(data)
    together = predict_probabilities(learner.model, data.test_images)
    alone = predict_probabilities(learner.model, data.test_images[7:8])
    assert np.allclose(together[7], alone[0], atol=1e-4)


def test_float32_is_taken_when_asked_for():
    assert choose_precision("float32", torch.device("cpu")) == torch.float32


def test_measuring_counts_what_is_right_and_averages_the_loss():
    measured = measure(np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([0, 1]))
    assert measured["accuracy"] == 0.5 and measured["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.3)) / 2)


def test_metrics_hold_the_results_with_their_conditions(data):
    learner, parameters, seconds = trained(data)
    metrics = measure_run(learner, data, parameters, 1e-3, seconds, predict_probabilities(learner.model, data.test_images))
    required = """network seed schedule epochs parameters train_accuracy valid_accuracy test_accuracy seconds device dataset split
        n_train n_test torch fastai"""
    assert set(required.split()) <= set(metrics) and metrics["n_test"] == 124
