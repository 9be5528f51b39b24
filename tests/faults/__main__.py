"""`python tests/faults MINUTES [SEED]`: the fault bench with new seeds until the time is over.

Each round tries as many inputs as the sample of `invoke test --all`, and says how many tests have
passed; half an hour or more begins with kills. What broke something lies in fuzz-found/, and
hypothesis tries it first the next time. The status is 1 if there was any.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 100  # percent of what `invoke test --all` tries


def main(minutes: float, seed: int) -> int:
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-n", str(os.cpu_count())]
    command += ["-p", "no:cacheprovider", "--tb=line"]
    environment = os.environ | {"FUZZ_EXAMPLES": str(EXAMPLES), "OMP_NUM_THREADS": "1"}
    parts = ["tests/faults/test_kills.py"] * (minutes >= 30)  # forty kills: ten minutes and more
    while time.monotonic() - began < 60 * minutes:
        part = parts.pop() if parts else "tests/faults/test_faults.py"
        done = subprocess.run(
            [*command, f"--hypothesis-seed={seed}", part],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        passed = (re.findall(r"(\d+) passed", done.stdout) or ["no"])[-1]
        spent = (time.monotonic() - began) / 60
        print(f"seed {seed}: {passed} tests passed after {spent:.0f} minutes", flush=True)
        if done.returncode:
            print(done.stdout[-20_000:])
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int((sys.argv[2:] or [time.time()])[0])))
