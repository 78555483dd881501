"""What matters on one GPU: ``make bench-gpu``. Not run on a GPU.

Each contender runs in a process of its own with a time limit; one that fails has no figures and a
reason, and the others go on. Prints a table and, last, one line of JSON. ``--device cpu`` runs the
same code at tiny shapes, a trial whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.gpu import report
from tests.benchmarks.gpu.contenders import CONTENDERS, MACHINE
from tests.benchmarks.gpu.processes import Outcome, Results, run, run_all

BUDGET_S = 780.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--only", nargs="+", choices=[name for name in CONTENDERS if name != MACHINE]
    )
    parser.add_argument("--out", type=Path, help="write the JSON here too, after every contender")
    parser.add_argument(
        "--budget", type=float, default=BUDGET_S, help="seconds, after which no contender starts"
    )
    arguments = parser.parse_args()
    # So that a contender ends with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    wanted = CONTENDERS if arguments.only is None else (MACHINE, *arguments.only)
    chosen = {name: one for name, one in CONTENDERS.items() if name in wanted}
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.device)
    folder = Path(tempfile.mkdtemp(prefix="mixsd-bench-gpu-"))

    def start(name: str, limit_s: float) -> Outcome:
        out = folder / f"{name}.json"
        command = [sys.executable, "-m", "tests.benchmarks.gpu.child", name]
        command += ["--device", arguments.device, "--folder", str(folder)]
        return run([*command, "--out", str(out), "--limit", str(limit_s)], out, limit_s)

    def done(name: str) -> None:
        print(report.progress(name, results), flush=True)
        if name == MACHINE and results.outcomes[name].reason:
            sys.exit(results.outcomes[name].reason)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(report.as_json(chosen, results)) + "\n")

    try:
        run_all(chosen, results, arguments.budget, start, done)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = report.as_json(chosen, results)
    print(report.text(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
