"""Every loader of user input: small valid files for it, and a use of what it accepts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from actors.evaluation import benchmarks
from actors.evaluation.benchmarks import base, humaneval, text
from common import corpora, models
from common.config import run_config, yaml_file
from common.corpora import Corpus, folder, inspection, rehearsal
from common.corpora.settings import DataSettings
from common.errors import shown
from common.records import MAX_FACT_ID, EvalItem, Fact
from common.rundir import RunDir
from deploy.control import desired_state
from deploy.planning import architecture
from tests.actors.evaluation.benchmarks.letters import materials
from tests.mutations import mutator, seeds

CONFIG = run_config.parse(
    {"name": "run", "method": {"name": "sft"}, "data": {"kgfact": {"domains": 2, "entities": 2}}},
    "test",
)


@dataclass(frozen=True)
class Loader:
    """``load`` gets the folder with the mutated ``file`` and the ``others``, which are whole."""

    name: str
    file: str
    seeds: Sequence[bytes]
    load: Callable[[Path], None]
    others: dict[str, bytes] = field(default_factory=dict)
    # What is done to a mutant's bytes: compression, or another format.
    pack: Callable[[bytes, int], bytes] = lambda data, number: data


def use_corpus(corpus: Corpus) -> None:
    """Everything that a run does with the text of a corpus."""
    prompts = materials().prompts
    ids = [fact.id for fact in corpus.facts]
    assert ids
    assert len(set(ids)) == len(ids)
    for fact in corpus.facts:
        assert 0 < len(fact.id) <= MAX_FACT_ID
        msgpack.packb([fact.id, fact.question, fact.answer])
        _use_fact(fact)
        prompts.expert(fact)
        prompts.canonical(fact)
    for item in (*corpus.retrieval, *(one for items in corpus.splits.values() for one in items)):
        _use_item(item)
        prompts.retrieval(item)


def _use_fact(fact: Fact) -> None:
    texts = (fact.id, fact.question, fact.answer, fact.statement, fact.target, fact.subject)
    # A retracted fact may have no statement.
    assert all(texts[:3])
    assert fact.statement or fact.retract
    "".join(texts).encode()


def _use_item(item: EvalItem) -> None:
    assert item.id
    assert item.question
    assert item.answer
    "".join((item.id, item.question, item.answer, *item.context, *item.aliases)).encode()


def _use_benchmark(name: str) -> Callable[[Path], None]:
    def load(root: Path) -> None:
        settings = materials(data_root=root, unsafe_code=True)
        built = benchmarks.BUILDERS[name](settings)
        base.fingerprint(built)
        if isinstance(built, base.Generation):
            assert built.questions
            for question in built.questions:
                f"{question.id} {question.text} {question.answer}".encode()
                if name == "humaneval":
                    # Running it is the sandbox's matter.
                    humaneval.tests(question)
                    humaneval.solution(question, "```python\ndef f(): pass\n```")
                elif name != "math500":
                    built.grade(question, f"So the answer is \\boxed{{{question.answer}}}. (A)")
        elif isinstance(built, base.MultipleChoice):
            assert built.items
            for item in built.items:
                f"{item.text} {item.choices[item.gold]}".encode()
                rates = [[-1.0] for _ in item.choices]
                benchmarks.choice.likeliest(item.choices, rates)
        else:
            assert built.windows

    return load


def _config_seeds() -> list[bytes]:
    every = run_config.dump(run_config.parse(json.loads(_FULL), "full")).encode()
    configs = Path(__file__).parents[2] / "configs"
    shipped = [(configs / name).read_bytes() for name in ("smoke.yaml", "opsd-smoke.yaml")]
    extending = b"extends: [base.yaml, base.yaml]\nname: run\ndata: {kgfunc: {}}\n"
    return [_BASE, extending, every, *shipped]


_BASE = b"name: run\nmethod: {name: mixsd}\ndata: {kgfact: {}}\n"
_FULL = """{"name": "full", "method": {"name": "mixsd", "lambda_backoff": {"after": 2,
"factor": 0.5}}, "data": {"facts": "facts.jsonl", "limit": 3}, "prompts": {"ask": "{question}",
"canonical": "{answer}", "prefix": "p", "transition": "t", "mode": "boxed"}, "rollout":
{"autoscale": {"max": 4}, "schedule": [{"after_s": 1, "actors": 2}]}, "learner": {"lora": {},
"average": 0.9}, "evaluator": {"fisher": {}, "text": "x.txt"}}"""


def _load_config(root: Path) -> None:
    config = run_config.load(root / "run.yaml")
    again = root / "again.yaml"
    again.write_text(run_config.dump(config), encoding="utf-8")
    assert run_config.load(again) == config
    assert json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))


def _load_overrides(root: Path) -> None:
    # As the arguments of a command arrive.
    given = os.fsdecode((root / "overrides").read_bytes()).split("\n")
    (root / "run.yaml").write_bytes(b"name: r\nmethod: {name: sft}\ndata: {kgfact: {}}\n")
    run_config.dump(run_config.load(root / "run.yaml", given)).encode()


def _load_live(root: Path) -> None:
    run = RunDir(root)
    run.desired.unlink(missing_ok=True)
    changes: dict[str, Any] = {}
    for line in os.fsdecode((root / "changes").read_bytes()).split("\n"):
        key, _, value = line.partition("=")
        changes[key] = yaml_file.parse(value, shown(line))
    wanted = desired_state.change(run, CONFIG, changes)
    assert desired_state.read(run, CONFIG) == wanted


def _load_wish(root: Path) -> None:
    desired_state.read(RunDir(root), CONFIG).model_dump_json().encode()


def _load_custom(file: str) -> Callable[[Path], None]:
    return lambda root: use_corpus(corpora.load(DataSettings(facts=str(root / file))))


def _load_prompts(root: Path) -> None:
    prompts = rehearsal.read_prompts(root / "prompts.jsonl")
    for fact in rehearsal.add([], prompts, len(prompts), answers_differ=False):
        assert materials().prompts.naive(fact)
        msgpack.packb([fact.id, fact.question])


def _load_built(root: Path) -> None:
    built = inspection.inspect(str(root))
    "\n".join((*built.problems, *built.duplicates, *built.contradictions)).encode()
    use_corpus(corpora.load(DataSettings(facts=str(root))))


def _built(name: str, settings: dict[str, Any], scratch: Path) -> dict[str, bytes]:
    corpus = corpora.load(run_config.parse_data({name: settings}))
    splits: dict[str, Any] = {"train": corpus.facts[:4]}
    splits |= {key: items[:3] for key, items in corpus.splits.items()}
    if corpus.retrieval:
        splits["retrieval"] = corpus.retrieval[:3]
    folder.write(scratch / name, name, settings, splits)
    return {path.name: path.read_bytes() for path in (scratch / name).iterdir()}


def _load_published(name: str, file: str) -> Callable[[Path], None]:
    settings = {name: {"file": file}}
    return lambda root: use_corpus(corpora.load(run_config.parse_data({**settings, "root": root})))


def _load_stops(root: Path) -> None:
    assert all(isinstance(stop, int) for stop in models._stop_tokens(root, 2))


def _load_architecture(root: Path) -> None:
    shape = architecture.resolve(str(root))
    assert shape.parameters > 0
    assert shape.kv_bytes(2) > 0


def _load_text(root: Path) -> None:
    base.fingerprint(text.text_nll(materials(text=root / "text.txt")))


def _benchmark_loaders() -> list[Loader]:
    found = []
    for name, (stem, rows) in seeds.BENCHMARKS.items():
        others = {"mmlu/dev.jsonl": seeds.lines(*[seeds.MMLU] * 5)} if name == "mmlu" else {}
        load = _use_benchmark(name)
        found.append(Loader(f"{name} jsonl", f"{stem}.jsonl", [rows], load, others))
    packed = {"arc_easy": [seeds.ARC] * 3, "ifeval": [seeds.IFEVAL] * 2, "mmlu": [seeds.MMLU] * 3}
    for name, some in packed.items():
        stem, others = seeds.BENCHMARKS[name][0], {"mmlu/dev.jsonl": seeds.lines(*[seeds.MMLU] * 5)}
        rows = seeds.lines(*some)
        load = _use_benchmark(name)
        found.append(
            Loader(f"{name} parquet", f"{stem}.parquet", [rows], load, others, mutator.parquet)
        )
    prose = ("Prose.\n" * 9).encode()
    load = _use_benchmark("wikitext2")
    found.append(
        Loader("wikitext2 txt.gz", "wikitext2/test.txt.gz", [prose], load, pack=mutator.gzipped)
    )
    gsm8k = b'question,answer\nQ?,"so\n#### 18"\n"R, S?",#### 3\n'
    found.append(Loader("gsm8k csv", "gsm8k/test.csv", [gsm8k], _use_benchmark("gsm8k")))
    found.append(Loader("text_nll", "text.txt", [prose], _load_text))
    return found


def all_loaders(scratch: Path) -> list[Loader]:
    """The loaders; ``scratch`` is a folder to build corpora in."""
    graph = _built("kgfact", {"domains": 3, "entities": 2}, scratch)
    functions = _built("kgfunc", {"train_per_op": 1, "test_per_op": 1}, scratch)
    cases = json.dumps(seeds.CASES).encode()
    problems = b"metadata,problem,answer\n{'topic': 'x'},Who won?,Michio \n,\"What, then?\",4\n"
    live = b"rollout=3\nevaluator=1\nreplay.max_bytes=100000\nreplay.tolerance=2.5"
    sets = b"learner.lr=1e-5\nevaluator.suites=[recall]\nmethod={name: mixsd}\nname=x"
    wish = desired_state.read(RunDir(scratch), CONFIG).model_dump_json().encode()
    prompts = seeds.lines({"prompt": "Hi."}, {"prompt": "Name two fruits."})
    custom, rows = _load_custom, [seeds.FACTS, seeds.CHATS, seeds.INSTRUCTIONS]
    gzipped, parquet = mutator.gzipped, mutator.parquet
    return [
        Loader("configuration", "run.yaml", _config_seeds(), _load_config, {"base.yaml": _BASE}),
        Loader("--set", "overrides", [sets], _load_overrides),
        Loader("scale and set", "changes", [live], _load_live),
        Loader("desired.json", "desired.json", [wish], _load_wish),
        Loader("facts jsonl", "facts.jsonl", rows, custom("facts.jsonl")),
        Loader("facts json", "facts.json", _as_lists(*rows), custom("facts.json")),
        Loader("facts csv", "facts.csv", [seeds.CSV], custom("facts.csv")),
        Loader("facts parquet", "f.parquet", rows, custom("f.parquet"), pack=parquet),
        Loader("facts jsonl.gz", "f.jsonl.gz", rows, custom("f.jsonl.gz"), pack=gzipped),
        Loader("facts csv.gz", "f.csv.gz", [seeds.CSV], custom("f.csv.gz"), pack=gzipped),
        Loader("prompts", "prompts.jsonl", [prompts], _load_prompts),
        Loader("card", "card.json", [graph["card.json"]], _load_built, _but(graph, "card.json")),
        Loader("kgfact", "train.jsonl", [graph["train.jsonl"]], _load_built, graph),
        Loader("kgfact split", "two_hop.jsonl", [graph["two_hop.jsonl"]], _load_built, graph),
        Loader("kgfunc", "train.jsonl", [functions["train.jsonl"]], _load_built, functions),
        Loader("simpleqa", "simpleqa/s.csv", [problems], _load_published("simpleqa", "s.csv")),
        Loader("mquake json", "mquake/m.json", [cases], _load_published("mquake", "m.json")),
        Loader(
            *(
                "mquake parquet",
                "mquake/m.parquet",
                [seeds.lines(seeds.CASE, {**seeds.CASE, "case_id": 3})],
            ),
            *(_load_published("mquake", "m.parquet"), {}, parquet),
        ),
        Loader(
            "config.json", "config.json", [json.dumps(seeds.MODEL).encode()], _load_architecture
        ),
        Loader(
            *("generation_config", "generation_config.json"),
            *([b'{"eos_token_id": [2, 7], "x": 1}', b'{"eos_token_id": 2}'], _load_stops),
        ),
        *_benchmark_loaders(),
    ]


def _as_lists(*lines: bytes) -> list[bytes]:
    return [json.dumps([json.loads(line) for line in of.splitlines()]).encode() for of in lines]


def _but(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: content for key, content in files.items() if key != name}
