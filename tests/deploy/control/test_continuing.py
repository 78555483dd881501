"""What ``continues`` resolves to, once, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest

from common.config.run_config import load, parse
from common.corpora import Corpus
from common.corpora.batches import follow
from common.errors import UserError
from common.records import Fact
from common.rundir import RunDir
from deploy.control import identity, launch
from deploy.control.continuing import check_batches, check_checkpoint, resolve
from learner.checkpoint import existing
from tests.deploy.chains import finish, written

# The first peak of recall is step 4; step 6 is worse.
PEAK = {0: {"recall": 0.0}, 2: {"recall": 0.5}, 4: {"recall": 0.9}, 6: {"recall": 0.8}}


@pytest.fixture
def first(tmp_path):
    return finish(tmp_path, written("first", model="org/base"), PEAK)


def second(**settings):
    return written("second", continues="first", data={"kgfact": {"seed": 1}}, **settings)


def test_the_model_is_the_selected_checkpoint_and_the_chain_knows_the_first_base(first, tmp_path):
    config = resolve(second(), tmp_path)
    (link,) = config.chain
    assert config.model == str(first.checkpoints / "step_4")
    assert (link.run, link.model, str(link.checkpoint)) == (first.root, "org/base", config.model)
    assert link.weights == {one.step: one for one in existing(first.checkpoints)}[4].weights_hash
    assert link.data.kgfact.seed == 0
    assert config.continues == str(first.root)
    # What is recorded is read back as it is, and nothing in it is open.
    finish(tmp_path, second(), PEAK)
    assert load(tmp_path / "second" / "config.yaml") == config
    assert resolve(config, tmp_path / "elsewhere") == config


def test_a_run_without_continues_stays_as_it_is(tmp_path):
    config = written("first")
    assert resolve(config, tmp_path) is config


def test_a_chain_grows_by_a_link_with_each_run(first, tmp_path):
    finish(tmp_path, second(), PEAK)
    third = resolve(written("third", continues=str(tmp_path / "second")), tmp_path / "elsewhere")
    assert [link.run.name for link in third.chain] == ["first", "second"]
    assert third.chain[1].model == str(first.checkpoints / "step_4")
    assert [data.kgfact.seed for data in third.earlier] == [0, 1]


def test_a_file_that_extends_that_of_the_first_run_may_name_its_base_and_no_other(first, tmp_path):
    assert resolve(second(model="org/base"), tmp_path).chain
    with pytest.raises(UserError, match=r"model: packaged, but .* began with org/base; remove"):
        resolve(second(model="packaged"), tmp_path)


def test_earlier_batches_are_measured_whether_or_not_a_suite_says_so(first, tmp_path):
    assert resolve(second(), tmp_path).evaluator.names == ("in_domain", "text_nll", "earlier")
    suites = [{"suite": "earlier", "at": "selected"}, "recall"]
    chosen = resolve(second(evaluator={"suites": suites}), tmp_path).evaluator
    assert chosen.names == ("earlier", "recall")
    assert chosen.always == {"recall"}
    with pytest.raises(UserError, match=r"has earlier, .* but continues names no run"):
        written("first", evaluator={"suites": ["earlier"]})


def test_a_resumed_run_has_the_checkpoint_it_began_with_though_another_is_selected_now(
    first, tmp_path
):
    run = finish(tmp_path, second(), PEAK)
    shutil.rmtree(first.root / "eval")
    began = load(run.config)
    assert resolve(second(), tmp_path, began) == began
    assert resolve(second(), tmp_path).model == str(first.checkpoints / "step_6")
    # Nor does it need the rest of the earlier run.
    first.config.unlink()
    assert launch.settled(second(), run).model == began.model


def test_without_recall_the_last_checkpoint_is_continued(tmp_path):
    finish(tmp_path, written("first"), {2: {}, 10: {}})
    assert resolve(second(), tmp_path).model == str(tmp_path / "first/checkpoints/step_10")


def test_only_a_finished_run_that_has_its_selected_checkpoint_can_be_continued(first, tmp_path):
    shutil.rmtree(first.checkpoints / "step_4")
    with pytest.raises(UserError, match=r"no checkpoint of step 4, .* step_2, step_6\. Keep it"):
        resolve(second(), tmp_path)
    first.status.write_text(json.dumps({"run": "first", "state": "stopped"}))
    with pytest.raises(UserError, match="run first is stopped, and only a finished run"):
        resolve(second(), tmp_path)
    with pytest.raises(UserError, match=r"no run nobody in .* there are: first"):
        resolve(written("x", continues="nobody"), tmp_path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (shutil.rmtree, "is gone or damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is gone or damaged"),
    ],
)
def test_a_checkpoint_that_is_gone_stops_the_start(first, tmp_path, damage, problem):
    config = resolve(second(), tmp_path)
    check_checkpoint(config)
    damage(first.checkpoints / "step_4")
    with pytest.raises(UserError, match=rf"continues: checkpoint .*step_4, .* {problem}"):
        check_checkpoint(config)


def test_a_checkpoint_with_other_weights_stops_the_start(first, tmp_path):
    config = resolve(second(), tmp_path)
    link = config.chain[0].model_copy(update={"weights": "0123"})
    with pytest.raises(UserError, match=r"step_4, .* has weights \w{16}, not 0123"):
        check_checkpoint(config.model_copy(update={"chain": (link,)}))


def test_a_chain_is_not_written_by_hand(first, tmp_path):
    raw = resolve(second(), tmp_path).model_dump(mode="json", exclude_unset=True)
    del raw["continues"]
    with pytest.raises(UserError, match="chain is what 'up' records"):
        parse(raw, "x")


def test_a_batch_must_have_the_facts_that_it_was_taught_with(tmp_path):
    taught = [Fact("1", "Who?", "Ann"), Fact("2", "Where?", "Rome")]
    corpus = Corpus(
        [Fact("1", "Who?", "Bo")], [], earlier=follow([taught, [Fact("1", "Who?", "Bo")]])
    )
    run = finish(tmp_path, written("first"), PEAK)
    digest = {"facts": identity.hash_facts(taught), "prompts": "", "tokenizer": "", "model": ""}
    began = identity.Identity.from_json({"num_facts": 2, **digest, "versions": {}})
    identity.record_identity(RunDir(run.root), began)
    config = resolve(second(), tmp_path)
    assert check_batches(config, corpus) == ["batch 1 (first): 2 facts, 1 still hold"]
    with pytest.raises(UserError, match="run first, batch 1 of the chain, has other facts"):
        check_batches(config, Corpus(corpus.facts, [], earlier=corpus.earlier[:1]))
    alone = Corpus([Fact("1", "Who?", "Bo", replaces="1")], [])
    assert check_batches(written("x"), alone) == [
        "note: 1 facts replace others, but the run continues none"
    ]
