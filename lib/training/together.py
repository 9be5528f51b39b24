"""Training one network on several graphics cards, or processes, with fastai's distributed trainer.

torch's launcher starts this module once per card; each takes its share of every batch, so that the run is the same
recipe as on one. The first leaves the weights and what fastai's recorder holds in a folder, for whoever launched it,
and all end when that process does.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import torch
from fastai.distributed import (
    DistributedDL,
    DistributedTrainer,
    num_distrib,
    rank_distrib,
    setup_distrib,
    teardown_distrib,
)
from safetensors.torch import load_file, save_file

from lib.data import load_data
from lib.errors import InputError
from lib.files import LIVE_NOTEBOOK, ROOT, read_json, write_json
from lib.params import DataParameters, TrainingParameters, check


class SharedLoader(DistributedDL):
    """fastai's loader of one process's share, for processes on processors as well (fastai's own needs CUDA here)."""

    def _broadcast(self, values, rank):
        values = torch.as_tensor(values, device=self.device)
        torch.distributed.broadcast(values, rank)
        return values.tolist()


class Together(DistributedTrainer):
    """fastai's trainer with that loader; batch norm sees the whole batch where torch can do that, on CUDA."""

    def __init__(self):
        on_cards = torch.cuda.is_available()
        super().__init__(sync_bn=on_cards, cpu=not on_cards)

    def _wrap_dl(self, dl):
        return dl if isinstance(dl, DistributedDL) else SharedLoader(dl, device=dl.device)


def fit_together(
    learner,
    n: int,
    data: DataParameters,
    parameters: TrainingParameters,
    learning_rate: float,
    checkpoint: Path | None = None,
) -> float:
    """Trains as lib.training.fit does, by n processes, brings the result into `learner`, and returns the seconds.

    Raises InputError if a process fails, with the error that it gave.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_json(
            Path(folder) / "job.json",
            {
                "data": data.model_dump(),
                "training": parameters.model_dump(),
                "learning_rate": learning_rate,
                "checkpoint": checkpoint and str(Path(checkpoint).absolute()),
            },
        )
        launcher = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={n}",
        ]
        environment = {
            name: value for name, value in os.environ.items() if name not in LIVE_NOTEBOOK
        }
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // n))
        with tempfile.TemporaryFile("w+") as errors:
            launch = partial(
                subprocess.Popen,
                cwd=ROOT,
                env=environment,
                text=True,
                stdin=subprocess.PIPE,  # see exit_with_parent
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            with launch([*launcher, "-m", "lib.training.together", folder]) as process:
                try:
                    for line in process.stdout:
                        print(line, end="", flush=True)
                except (
                    BaseException
                ):  # interrupted: the processes must not go on without anyone listening
                    process.terminate()
                    raise
            if process.returncode != 0:
                errors.seek(0)
                raise InputError(f"Training with {n} processes failed: {last_error(errors.read())}")
        recorded = read_json(Path(folder) / "recorder.json")
        learner.model.load_state_dict(load_file(Path(folder) / "weights.safetensors"))
    recorder = learner.recorder
    recorder.values, recorder.losses, recorder.hps = (
        recorded["values"],
        recorded["losses"],
        recorded["hps"],
    )
    return recorded["seconds"]


def last_error(stderr: str) -> str:
    """The last line of an error that a process raised, before the launcher's own report."""
    errors = re.findall(
        r"^(?:\[rank\d+\]: )?((?!torch\.distributed)\S*Error: .+)$", stderr, flags=re.MULTILINE
    )
    return errors[-1] if errors else "one was ended from outside."


def exit_with_parent() -> None:
    """Ends this process when its standard input ends: whoever launched it holds that open, and may be killed at any time."""

    def watch():
        while os.read(
            0, 1
        ):  # not sys.stdin.read(), whose lock a daemon thread would keep while Python shuts down
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(folder: str) -> None:
    """One process's part of the job in the folder."""
    exit_with_parent()
    from lib.training.callbacks import PlainProgress
    from lib.training.learner import fit, make_learner

    setup_distrib(os.environ["LOCAL_RANK"] if torch.cuda.is_available() else None)
    job = read_json(Path(folder) / "job.json")
    whole = TrainingParameters(**job["training"])
    share = whole.model_copy(
        update={"batch_size": max(1, whole.batch_size // num_distrib()), "processes": 1}
    )
    learner = make_learner(load_data(check(DataParameters, job["data"])), share)
    learner.add_cb(Together())
    learner.path = Path(
        folder
    )  # shared, as the first process writes the best weights and all read them
    if rank_distrib():
        learner.remove_cb(PlainProgress)
    torch.manual_seed(
        share.seed * 1000 + rank_distrib()
    )  # the same weights, other dropout and augmentation
    seconds = fit(
        learner, share, job["learning_rate"], job["checkpoint"] and Path(job["checkpoint"])
    )
    if not rank_distrib():
        save_file(
            {name: value.contiguous().cpu() for name, value in learner.model.state_dict().items()},
            Path(folder) / "weights.safetensors",
        )
        recorder = learner.recorder
        write_json(
            Path(folder) / "recorder.json",
            {
                "values": [list(map(float, row)) for row in recorder.values],
                "losses": list(map(float, recorder.losses)),
                "hps": {name: list(map(float, values)) for name, values in recorder.hps.items()},
                "seconds": seconds,
            },
        )
    teardown_distrib()


if __name__ == "__main__":
    main(sys.argv[1])
