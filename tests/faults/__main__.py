"""`python tests/faults MINUTES [SEED]`: the fault bench with new seeds until the time is over.

Each round tries as many inputs as the sample of `invoke test --all`, and says how many there were.
From 30 minutes on it first tries forty kills, from 60 on also a hundred times all commands at once.
The status is 1 if something broke: an exception that is not ours, ten seconds for an answer, more
than 1 GiB, a half-written file, a process left behind. Files that did it lie in fuzz-found/;
hypothesis keeps the rest in .hypothesis/, and tries it first the next time.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from lib.running import n_cores

ROOT = Path(__file__).resolve().parents[2]


def main(minutes: float, seed: int) -> int:
    began, first, inputs, memory = time.monotonic(), seed, Counter(), 0
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-n", str(n_cores())]
    command += ["-p", "no:cacheprovider", "--tb=short", "--show-capture=no"]
    parts = ["test_at_once.py"] * (minutes >= 60) + ["test_kills.py"] * (minutes >= 30)
    while time.monotonic() - began < 60 * minutes:
        part = parts.pop() if parts else "test_faults.py"
        done = subprocess.run(
            [*command, f"--hypothesis-seed={seed}", f"tests/faults/{part}"],
            cwd=ROOT,
            env=os.environ | {"FUZZ": str(seed), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        tried = re.findall(r"^tried: (.+)", done.stdout, re.M)
        if done.returncode or not tried:
            print(done.stdout[-20_000:], done.stderr[-2_000:])
            return 1
        tried = json.loads(tried[-1])
        inputs.update(tried["inputs"])
        memory = max(memory, tried["memory"])
        spent = (time.monotonic() - began) / 60
        said = f"{inputs.total():,} inputs, at most {memory / 2**20:.2f} GiB more within one test"
        print(f"seed {seed}: no defect after {spent:.0f} minutes, {said}", flush=True)
        seed += 1
    print(f"seeds {first} to {seed - 1}:")
    for name, count in inputs.most_common():
        print(f"{count:8,} {name.removeprefix('test_').replace('_', ' ')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int((sys.argv[2:] or [time.time()])[0])))
