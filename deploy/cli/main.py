"""``mixsd-cluster``: parses the command line before heavy imports.

Exit codes: 0 done, 1 the run failed, 2 invalid input.
"""

from __future__ import annotations

import click

from deploy.cli import (
    completion,
    data,
    doctor,
    evaluate,
    monitor,
    plan,
    render,
    rollout,
    run,
    scale,
    simulate,
    study,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mixsd-cluster")
def main() -> None:
    """Teach a language model new facts without making it forget."""


_COMMANDS = (
    *(run.up, run.status, run.logs, run.down, run.report, run.compare),
    *(rollout.rollout, study.study),
    *(scale.scale, scale.set_live),
    *(plan.plan, simulate.simulate, doctor.doctor, completion.completion),
    *(data.data, evaluate.evaluate, monitor.monitor, render.render),
)
for command in _COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
