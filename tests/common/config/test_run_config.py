import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config.run_config import RunConfig, dump, load, parse
from common.config.sections import RolloutSettings
from common.errors import UserError

MINIMAL = "name: run\nmethod: {name: mixsd}\ndata: {kgfact: {}}\n"


def read(tmp_path, text=MINIMAL, *overrides):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load(path, overrides)


def test_a_minimal_file_takes_the_defaults(tmp_path):
    config = read(tmp_path)
    assert (config.learner.epochs, config.learner.batch_size, config.seed) == (30, 20, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sede=1", "sede: no such setting; did you mean seed?"),
        (
            "learner.batchsize=1",
            "learner.batchsize: no such setting; did you mean learner.batch_size?",
        ),
        (
            "data.kgfact.entity=1",
            "data.kgfact.entity: no such setting; did you mean data.kgfact.entities?",
        ),
        ("method.mixrate=1", "method.mixrate: no such setting; did you mean method.mix_rate?"),
        (
            "method={name: sft, mix_rate: 0.3}",
            "method.mix_rate: no such setting; those of sft are name",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(tmp_path, override, message):
    with pytest.raises(UserError) as error:
        read(tmp_path, MINIMAL, override)
    assert str(error.value) == f"{tmp_path / 'run.yaml'}: {message}"


def test_an_unknown_key_near_to_nothing_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"qqq: no such setting; those here are name, .*learner"):
        read(tmp_path, MINIMAL, "qqq=1")


def test_a_value_out_of_range_shows_key_bound_and_value(tmp_path):
    with pytest.raises(UserError, match=r"learner\.epochs: .*greater than or equal to 1, not 0"):
        read(tmp_path, MINIMAL, "learner.epochs=0")


def test_every_error_of_a_file_is_reported_at_once(tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path, MINIMAL, "learner.epochs=0", "rollout.slots=0")
    assert len(str(error.value).splitlines()) == 2


def test_of_very_many_errors_the_first_are_reported_and_the_others_counted(tmp_path):
    suites = ", ".join(["nonsense"] * 32)
    with pytest.raises(UserError) as error:
        read(tmp_path, MINIMAL, f"evaluator.suites=[{suites}]")
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == f"{tmp_path / 'run.yaml'}: 12 more errors"


def test_overrides_replace_add_and_the_last_one_wins(tmp_path):
    config = read(tmp_path, MINIMAL, "name=other", "learner.lr=0.5", "learner.lr=0.25")
    assert (config.name, config.learner.lr) == ("other", 0.25)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.lr", "expected KEY=VALUE"),
        ("a..b=1", "expected KEY=VALUE"),
        ("name.x=1", "name is a value, not a section"),
        ("name=[", "--set name=.: not YAML: line 1: expected"),
    ],
)
def test_a_malformed_override_is_refused(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, MINIMAL, override)


def test_a_missing_setting_is_named():
    with pytest.raises(UserError, match="x: name: this setting is required"):
        parse({"method": {"name": "sft"}, "data": {"kgfact": {}}}, "x")


def test_an_unknown_method_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"method\.name: 'dpo' is not one of mixsd, sft, opsd"):
        read(tmp_path, MINIMAL, "method.name=dpo")


def test_exactly_one_source_of_facts_is_set(tmp_path):
    for override in ("data.facts=facts.jsonl", "data.kgfact=null"):
        with pytest.raises(UserError, match="set exactly one"):
            read(tmp_path, MINIMAL, override)


def test_more_ranks_than_rollouts_a_step_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"ranks is 3, more than learner\.batch_size 2"):
        read(tmp_path, MINIMAL, "learner.ranks=3", "learner.batch_size=2")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not YAML"), ("- 1", "expected a mapping .*, not list")]
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_the_resolved_configuration_reads_back_unchanged(tmp_path):
    config = read(tmp_path)
    assert read(tmp_path, dump(config)) == config


def test_a_key_named_after_a_method_is_refused_like_any_other() -> None:
    with pytest.raises(UserError, match="sft: no such setting"):
        parse({"name": "x", "method": {"name": "sft"}, "data": {"kgfact": {}}, "sft": 1}, "f")


# -- any input ---------------------------------------------------------

KEYS = st.sampled_from(
    ["name", "seed", "model", "method", "data", "replay", "learner", "kgfact", "lr", "mix_rate"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=4,
)


def is_read_or_refused(read):
    began = time.monotonic()
    try:
        answer = read()
    except UserError as error:
        answer = str(error)
    assert isinstance(answer, RunConfig) or 0 < len(answer) < 20_000
    assert time.monotonic() - began < 10


@settings(max_examples=700, deadline=None)
@given(st.dictionaries(KEYS | st.text(max_size=4), VALUES, max_size=6))
def test_any_mapping_is_read_or_refused(raw):
    is_read_or_refused(lambda: parse(raw, "f"))


@settings(max_examples=1300, deadline=None)
@given(
    st.sampled_from(
        [
            (name, key)
            for name, field in RunConfig.model_fields.items()
            for key in getattr(field.annotation, "model_fields", [])
        ]
    ),
    VALUES,
)
def test_any_value_of_any_setting_is_read_or_refused(where, value):
    raw = {"name": "x", "method": {"name": "sft"}, "data": {"kgfact": {}}}
    raw.setdefault(where[0], {})[where[1]] = value
    is_read_or_refused(lambda: parse(raw, "f"))


@settings(max_examples=1300, deadline=None)
@given(
    text=st.text(max_size=40)
    | st.text(alphabet=" \n\t:-[]{}&*!|>'\"#,?%@`~0129azname", max_size=40)
    | st.binary(max_size=40)
)
def test_any_file_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    is_read_or_refused(lambda: load(path))
    path.write_bytes(MINIMAL.encode() + path.read_bytes())
    is_read_or_refused(lambda: load(path))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc.=:[]{}&*!0129 -_", max_size=20))
def test_any_override_is_read_or_refused(tmp_path_factory, override):
    path = tmp_path_factory.getbasetemp() / "minimal.yaml"
    path.write_text(MINIMAL)
    for text in (override, f"learner.lr={override}"):
        is_read_or_refused(lambda text=text: load(path, [text]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 50_000, "not YAML: more than 40 levels"),
        ("a: &a [x]\nb: *a", "not YAML: aliases .* are not supported"),
        ("seed: 2001-99-99", "not YAML: month must be in 1"),
        ("? {a: b}\n: c", "not YAML"),
        ("seed: " + "9" * 5000, "not YAML: .*digits"),
        ("x" * (2**18 + 1), "over 262144 bytes"),
    ],
)
def test_a_file_that_is_too_demanding_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 9\)"):
        load(tmp_path / "latin.yaml")


def test_rollouts_of_the_frozen_reference_have_no_bound_on_their_age(tmp_path):
    for epochs in (1, 30):
        with pytest.raises(UserError, match=r"max_lag is 2 .*mixsd draws with the frozen"):
            read(tmp_path, MINIMAL, "replay.max_lag=2", f"learner.epochs={epochs}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("learner.offload=parameters", "learner.zero_stage=2", "learner.device=cuda"),
            "needs learner.zero_stage 3 or higher, not 2",
        ),
        (
            ("learner.offload=optimizer", "learner.zero_stage=2", "learner.device=cpu"),
            "everything is in CPU memory already; set offload to none",
        ),
    ],
)
def test_offload_that_moves_nothing_is_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, MINIMAL, *settings)


def test_speculative_decoding_needs_temperature_0():
    RolloutSettings(speculative_tokens=4)
    with pytest.raises(ValueError, match=r"speculative_tokens is 4 and .*temperature 0\.7"):
        RolloutSettings(speculative_tokens=4, temperature=0.7)


def test_early_stop_needs_no_recall_without_a_learner(tmp_path):
    options = ["learner.early_stop=true", "evaluator.actors=0"]
    with pytest.raises(UserError, match="first peak of recall"):
        read(tmp_path, MINIMAL, *options)
    assert not read(tmp_path, MINIMAL, *options, "train=false").train


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.betas=[2, 3]", r"learner\.betas\.0: .* less than 1, not 2"),
        ("learner.betas=[0.9, 1]", r"learner\.betas\.1: .* less than 1, not 1"),
        ("learner.eps=.inf", r"not YAML: line 1: \.inf is not a finite number"),
        ("learner.eps=inf", r"learner\.eps: input should be a finite number, not 'inf'"),
        ("learner.weight_decay=1e999", r"weight_decay: input should be a finite number"),
        ("learner.clip='nan'", r"learner\.clip: input should be a finite number, not 'nan'"),
        ("method.mix_rate=nan", r"method\.mix_rate: input should be a finite number"),
        ("learner.epochs=yes", r"learner\.epochs: input should be a valid integer.* not 'true'"),
        ("method.mix_rate=true", r"method\.mix_rate: input should be a valid number"),
        ("replay.max_lag=true", r"replay\.max_lag: input should be a valid integer"),
        (
            "rollout.max_tokens=0x7fffffffffffffffffff",
            r"rollout\.max_tokens: an integer of at most",
        ),
        ("cluster.stall_s=1e300", r"cluster\.stall_s: .* less than or equal to 1000000000"),
        ("seed=" + "9" * 5000, r"not YAML: line 1: an integer of over 70 digits"),
        ("learner=" + "x" * 5000, r"learner: input should be a valid dictionary"),
        ("\x1b[2J=1", r"--set '\\x1b\[2J=1': expected KEY=VALUE"),
    ],
)
def test_a_number_that_means_nothing_is_refused(tmp_path, override, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, MINIMAL, override)
    assert len(str(error.value)) < 1000


def test_a_repeated_section_is_refused_instead_of_lost(tmp_path):
    text = MINIMAL + "learner: {epochs: 3}\nreplay: {}\nlearner: {batch_size: 2}\n"
    with pytest.raises(UserError, match=r"run\.yaml: not YAML: line 6: key 'learner' is in line 4"):
        read(tmp_path, text)


def test_true_stays_a_value_where_one_is_expected(tmp_path):
    config = read(tmp_path, MINIMAL, "learner.pack=false", "name='true'")
    assert (config.learner.pack, config.name) == (False, "true")
