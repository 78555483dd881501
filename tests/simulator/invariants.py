"""What must hold once a simulated run has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.replay.work import work_items
from common.ledger import Counts, open_view
from common.records import draw_name
from learner.checkpoint import existing

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster

_COMMITS = ("commit", "restore")


def check(cluster: Cluster) -> None:
    """Every exposure is trained once, as far as there are steps, and no model is gone."""
    assert cluster.outcome == "finished", cluster.outcome
    cluster.kill_queue()
    epochs = cluster.config.exposures_per_rollout
    with_ledger = open_view(cluster.run.ledger)
    trained, lost = with_ledger.trained(), {name for name, _, _ in with_ledger.lost()}
    counts, recount = with_ledger.counts(), with_ledger.recount()
    with_ledger.close()
    assert counts == recount
    told = cluster.last_told
    assert told is not None
    assert (told.exposures_trained, told.committed_step) == (counts.trained, counts.committed_step)
    if cluster.deaths < cluster.config.replay.poison_after:
        facts = {name.partition("#")[0] for name in lost}
        assert facts <= {str(fact) for fact in cluster.poison}, f"left out without a cause: {lost}"
    items = work_items(cluster.config, cluster.facts)
    wanted = {(f, d, e) for f, d in items for e in range(epochs) if draw_name(f, d) not in lost}
    assert len(trained) == len(set(trained)), "an exposure is committed twice"
    _check_number(cluster, counts, wanted, set(trained))
    newest = existing(cluster.run.checkpoints)[0]
    assert newest.step == counts.committed_step == counts.last_step
    files = newest.folder.rglob("*.safetensors")
    if not any(path.read_bytes() in cluster.rotten for path in files):
        newest.verify()
        _check_weights(cluster, newest.folder, trained)
    _check_models(cluster)
    _check_history(cluster)


def _check_number(cluster: Cluster, counts: Counts, wanted: set[Any], trained: set[Any]) -> None:
    """All is trained, or as much as there are steps for."""
    if counts.committed_step != cluster.config.learner.max_steps:
        assert wanted <= trained, f"not trained: {wanted - trained}"
    elif not cluster.deaths and not cluster.poison:
        expected = cluster.config.learner.within_max_steps(len(wanted))
        assert len(trained) == expected, f"{len(trained)} of {expected} are trained"


def _check_history(cluster: Cluster) -> None:
    """No training that was committed is done again, unless its checkpoint was spoiled."""
    committed = 0
    for method, (_, step, *_) in ((m, a) for m, a in cluster.history if m in _COMMITS):
        if method == "restore" and not cluster.spoiled:
            assert step >= committed, f"back to step {step}, but {committed} was committed"
        committed = max(committed, step) if method == "commit" else committed


def _check_weights(cluster: Cluster, folder: Path, trained: list[tuple[str, int, int]]) -> None:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in folder.glob("model*.safetensors"):
        found |= load_file(path)
    expected = [sum(fact == one for one, _, _ in trained) for fact in cluster.facts]
    assert found["counts"].tolist() == expected, "the weights have other exposures"


def _check_models(cluster: Cluster) -> None:
    """Each checkpoint that was named is there, by its content, unless it was spoiled."""
    kept = {
        path.read_bytes()
        for folder in (cluster.run.checkpoints, cluster.run.checkpoints / ".superseded")
        for path in folder.glob("step_*/model*.safetensors")
    }
    gone = [name for name, content in cluster.named.items() if content not in kept]
    assert not [n for n in gone if cluster.named[n] not in cluster.spoiled], f"removed: {gone}"
