"""Files that extend others: order, merging, and errors that name the file."""

from __future__ import annotations

import pytest

from common.config.layers import MAX_FILES, origin, read
from common.config.run_config import dump, load
from common.errors import UserError

BASE = """
name: base
method: {name: mixsd, mix_rate: 0.3}
data: {kgfact: {domains: 7, entities: 25}, limit: 9}
learner: {epochs: 30, batch_size: 20, betas: [0.8, 0.9]}
"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_sections_merge_key_by_key_and_lists_and_values_replace(write):
    write("base.yaml", BASE)
    path = write("run.yaml", "extends: base.yaml\nname: run\nlearner: {lr: 0.5, betas: [0.1, 0.2]}")
    config = load(path)
    assert (config.name, config.learner.epochs, config.learner.batch_size) == ("run", 30, 20)
    assert (config.learner.lr, config.learner.betas) == (0.5, (0.1, 0.2))


def test_later_files_of_a_list_win_and_the_files_own_settings_win_over_all(write):
    write("base.yaml", BASE)
    write("sizes/small.yaml", "extends: ../base.yaml\nseed: 1\nlearner: {epochs: 1, lr: 0.1}")
    write("sizes/large.yaml", "seed: 2\nlearner: {epochs: 2}")
    path = write("run.yaml", "extends: [sizes/small.yaml, sizes/large.yaml]\nseed: 3")
    config = load(path)
    assert (config.seed, config.learner.epochs, config.learner.lr) == (3, 2, 0.1)


def test_files_given_beside_a_file_win_over_it_and_overrides_win_over_them(write):
    path = write("run.yaml", BASE)
    one = write("one.yaml", "seed: 1\nlearner: {epochs: 1}")
    two = write("two.yaml", "seed: 2")
    config = load(path, ["learner.batch_size=4"], [one, two])
    assert (config.seed, config.learner.epochs, config.learner.batch_size) == (2, 1, 4)


def test_each_combination_of_files_is_a_run_of_its_own_name(write):
    path, model = write("kgfact.yaml", BASE), write("models/qwen3-1.7b.yaml", "seed: 1")
    method = write("sft.yaml", "method: {name: sft}")
    assert load(path).name == "base"
    assert load(path, [], [model, method]).name == "base-qwen3-1.7b-sft"
    assert load(path, ["name=mine"], [model, method]).name == "mine"
    named = write("named.yaml", "name: other")
    assert load(path, [], [model, named]).name == "other"
    assert load(write("run.yaml", "extends: kgfact.yaml"), [], [model]).name == "base-qwen3-1.7b"
    odd = write("no name.yaml", "seed: 1")
    with pytest.raises(UserError, match=rf"^{path}: name: .*'base-no name'"):
        load(path, [], [odd])


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        # Another source takes nothing from the one that it replaces.
        ("{kgfunc: {test_per_op: 5}}", {"kgfunc": {"test_per_op": 5}}),
        ("{facts: mine.jsonl}", {"facts": "mine.jsonl"}),
        ("{kgfact: {domains: 5}}", {"kgfact": {"domains": 5, "entities": 25}, "limit": 9}),
        ("{limit: 3}", {"kgfact": {"domains": 7, "entities": 25}, "limit": 3}),
    ],
)
def test_another_source_of_facts_replaces_the_first_as_a_whole(write, data, kept):
    write("base.yaml", BASE)
    settings, _ = read(write("run.yaml", f"extends: base.yaml\ndata: {data}"))
    assert settings["data"] == kept


def test_a_source_joins_what_a_file_without_one_says_of_the_data(write):
    settings, _ = read(write("a.yaml", "data: {limit: 3}"), [write("b.yaml", "data: {kgfact: {}}")])
    assert settings["data"] == {"limit": 3, "kgfact": {}}


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ("{name: opsd, samples: 8}", {"name": "opsd", "samples": 8}),
        ("{name: mixsd}", {"name": "mixsd", "mix_rate": 0.3}),
        ("{mix_rate: 0.7}", {"name": "mixsd", "mix_rate": 0.7}),
    ],
)
def test_another_method_replaces_the_first_as_a_whole(write, method, kept):
    write("base.yaml", BASE)
    settings, _ = read(write("run.yaml", f"extends: base.yaml\nmethod: {method}"))
    assert settings["method"] == kept


def test_what_a_run_stores_extends_nothing(write):
    write("base.yaml", BASE)
    config = load(write("run.yaml", "extends: base.yaml\nname: run"))
    stored = write("stored.yaml", dump(config))
    assert "extends" not in stored.read_text()
    assert load(stored) == config


def test_a_bad_key_or_value_is_reported_with_the_file_that_set_it(write):
    base = write("base.yaml", BASE + "rollout: {slot: 3}\nreplay: {min_size: 0}\nengine: {}\n")
    small = write("small.yaml", "learner: {epochs: 0}\nengine: {dtyp: float32}")
    path = write("run.yaml", "extends: [base.yaml, small.yaml]\nsede: 3")
    with pytest.raises(UserError) as error:
        load(path, ["learner.lr=-1"])
    assert sorted(str(error.value).splitlines()) == sorted(
        [
            f"{base}: rollout.slot: no such setting; did you mean rollout.slots?",
            f"{base}: replay.min_size: input should be greater than or equal to 1, not 0",
            f"{small}: engine.dtyp: no such setting; did you mean engine.dtype?",
            f"{small}: learner.epochs: input should be greater than or equal to 1, not 0",
            f"{path}: learner.lr: input should be greater than 0, not -1",
            f"{path}: sede: no such setting; did you mean seed?",
        ]
    )


def test_a_section_that_is_replaced_has_no_part_of_the_first_files(write):
    one, two = write("one.yaml", "a: {b: {c: 1}}"), write("two.yaml", "a: {b: {d: 2}}")
    three = write("three.yaml", "a: {b: null}")
    _, origins = read(one, [two])
    assert origin(origins, ("a", "b", "d")) == two
    assert (origin(origins, ("a", "b", "c")), origin(origins, ("x",))) == (one, None)
    _, origins = read(one, [two, three])
    assert origin(origins, ("a", "b", "d")) == three


def test_a_file_that_extends_itself_is_refused_with_the_chain(write):
    one = write("one.yaml", "extends: two.yaml")
    two = write("two.yaml", "extends: [./one.yaml]")
    with pytest.raises(UserError) as error:
        load(one)
    assert str(error.value) == (
        f"{two}: extends: {one} would extend itself: {one} extends {two} extends {one}"
    )


def test_a_missing_file_is_named_with_the_file_that_extends_it(write):
    path = write("run.yaml", "extends: none.yaml")
    with pytest.raises(UserError) as error:
        load(path)
    missing = path.parent / "none.yaml"
    assert str(error.value).startswith(f"{path}: extends: no file {missing}; ")


@pytest.mark.parametrize("given", ["3", "[3]", "{a: b}", '""', "null", "[[base.yaml]]"])
def test_extends_that_names_no_file_is_refused(write, given):
    path = write("run.yaml", f"extends: {given}\n{BASE}")
    with pytest.raises(UserError, match=r"run\.yaml: extends: expected a file or a list of files"):
        load(path)


def test_an_extended_file_that_is_no_mapping_is_named(write):
    path = write("base.yaml", "- 1")
    with pytest.raises(UserError, match=rf"^{path}: expected a mapping of settings, not list"):
        load(write("run.yaml", "extends: base.yaml"))


def test_a_file_may_be_extended_twice_but_not_without_end(write):
    write("0.yaml", BASE)
    for level in range(1, 8):
        write(f"{level}.yaml", f"extends: [{level - 1}.yaml, {level - 1}.yaml]")
    # 2⁵ − 1 and 2⁸ − 1 files.
    assert load(write("run.yaml", "extends: 4.yaml")).name == "base"
    with pytest.raises(UserError, match=f"more than {MAX_FILES} files"):
        load(write("run.yaml", "extends: 7.yaml"))


def test_extends_is_no_setting_on_the_command_line(write):
    with pytest.raises(UserError, match="extends: no such setting"):
        load(write("run.yaml", BASE), ["extends=base.yaml"])
