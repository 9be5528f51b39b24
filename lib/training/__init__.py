"""A fastai Learner for one network, and callbacks for its fit."""
