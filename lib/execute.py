"""One notebook, executed by papermill in a process of its own: `python -m lib.execute` with a step as JSON on stdin."""

import json
import sys

import papermill

from lib.files import ROOT


def main() -> int:
    """0 when the notebook ended well, else 1 with the reason as the last line on stderr."""
    step = json.load(sys.stdin)
    try:
        papermill.execute_notebook(
            step["notebook"], step["output"], step["parameters"], kernel_name="python3", cwd=str(ROOT / "notebooks"),
            progress_bar=False, stdout_file=sys.stdout,
        )
    except Exception as error:  # whatever it is becomes the step's failure: its last line, told by the parent
        print(f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
