"""A fastai Learner for one network, callbacks for its fit, and what the trained network is worth.

Behind it: `batches` and `augment` feed it, `callbacks`, `checkpoint` and `trackers` go along with
`fit`, `start` brings weights from elsewhere, `evaluate` predicts and measures.
"""

# ruff: noqa: F401  these are the names for others
from lib.training.callbacks import early_stopping
from lib.training.checkpoint import Checkpoint
from lib.training.evaluate import history, measure_run, predict_parts, predict_probabilities
from lib.training.learner import found_rate, make_learner, rate_conditions, rate_schedule, suggested
from lib.training.start import load_start
from lib.training.trackers import log_elsewhere, tracking
