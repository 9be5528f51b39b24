"""Which model file is meant: a shipped one, one at a path, or one that a profile has trained."""

import os
import re
from pathlib import Path

from lib.errors import InputError
from lib.files import MODEL, SHIPPED, outputs_folder
from lib.params import read_profile

DEFAULT = "handwriting"
PLAIN = re.compile(r"([^=]+)-seed(\d+)")  # a run's folder, where it differs in nothing


def first_models(outputs: Path) -> dict[str, Path]:
    """Each network's model file: of its runs with the profile's settings, the lowest seed's."""
    files = [(PLAIN.fullmatch(file.parent.name), file) for file in outputs.glob(f"*/{MODEL}")]
    found = [(match[1], int(match[2]), file) for match, file in files if match]
    lowest = {network: file for network, _, file in sorted(found, reverse=True)}
    return dict(sorted(lowest.items()))


def find_model(network: str, model: str, profile: str) -> Path:
    """The model file at the path `model`, or of a profile's `network` or run of that name.

    network: may also be one of SHIPPED; with neither, DEFAULT is. Raises InputError for both, and
    for what is not there.
    """
    if network and model:
        raise InputError("--network names a trained network and --model a file: give one of them.")
    read_profile(profile)  # says so where there is no such profile
    if network in SHIPPED or not network:
        path = Path(os.path.expanduser(model)) if model else SHIPPED[network or DEFAULT]
        if not path.is_file():
            raise InputError(f"There is no model file {path}; give the path of a {MODEL}.")
        return path
    outputs = outputs_folder(f"outputs/{profile}")
    networks = first_models(outputs)
    path = networks.get(network, outputs / network / MODEL)
    if not path.is_file():
        known = f"only {', '.join(networks)}" if networks else "nor any other"
        raise InputError(
            f"Profile {profile} has no trained network '{network}', {known}; "
            f"train it with `invoke run-all --profile {profile}`, or choose one that comes with "
            f"the repository: {', '.join(SHIPPED)}."
        )
    return path
