"""``completion``: the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from deploy.cli.options import reported

_PROGRAM = "mixsd-cluster"
_VARIABLE = "_MIXSD_CLUSTER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@reported
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash   mixsd-cluster completion bash > ~/.local/share/bash-completion/completions/mixsd-cluster
    zsh    mixsd-cluster completion zsh > ~/.zfunc/_mixsd-cluster
    fish   mixsd-cluster completion fish > ~/.config/fish/completions/mixsd-cluster.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
