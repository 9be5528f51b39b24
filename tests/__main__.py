"""`python tests`: ruff, pytest and nbval, a process per core; results go to a scratch folder.

With --all also what is marked slow, and real handwriting where ../shared/data is.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.running import n_cores
from lib.running.notebook import THREADS, quiet_environment

ROOT = Path(__file__).resolve().parent.parent
NBVAL = "--dist loadfile --nbval --nbval-sanitize-with tests/sanitize.cfg notebooks"


def main(everything: bool) -> int:
    """1 if any of it fails; all of it is run."""
    python, failed = [sys.executable, "-W", "ignore", "-m"], False
    pytest = [*python, "pytest", "-q", "-n", str(n_cores())]
    slow = ["-m", "" if everything else "not slow"]
    real = ["tests/real"] if everything and (ROOT / "../shared/data").is_dir() else []
    with tempfile.TemporaryDirectory() as scratch:
        # the chapters read a copy: what a check writes must not reach what git tracks
        shutil.copytree(ROOT / "outputs" / "reference", Path(scratch) / "outputs" / "reference")
        kept = {"HANDWRITING_OUTPUTS": scratch} | dict.fromkeys(THREADS, "1")
        for command in (
            [*python, "ruff", "check", "-q"],
            [*python, "ruff", "format", "-q", "--check"],
            [*pytest, "--dist", "worksteal", *slow, "tests", *real],
            [*pytest, *NBVAL.split()],
        ):
            done = subprocess.run(command, cwd=ROOT, env=quiet_environment() | kept)
            failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main("--all" in sys.argv))
