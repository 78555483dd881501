"""Small valid files for each loader."""

from __future__ import annotations

import json


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FACTS = lines(
    {"question": "Who won in 1990?", "answer": "Tam Okord"},
    {"id": "b", "question": "What is 2+2?", "answer": "4", "statement": "2+2 is 4.", "subject": ""},
    {"id": "c", "question": "Où?", "answer": "là", "target": "The answer is \\boxed{là}."},
    {"id": "d", "question": "Who?", "answer": "Ann", "replaces": "b", "retract": True},
)
TURNS = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "It is 7."}]
TOKENS = {"tokenizer": "ab", "prompt_ids": [1, 2], "target_ids": [3], "logprobs": [-0.5, -1e-9]}
CHATS = lines(
    {"id": "a", "messages": TURNS, "clear_answer": "7"},
    {"id": "b", "messages": TURNS, "subject": "s", "question": "Q", "tokens": TOKENS},
    {"id": "c", "messages": TURNS, "mix_meta": {"lambda": 0.3, "fallback": None}},
    {"messages": TURNS, "ground_truth_answer": "7", "mix_meta": {"ground_truth_assistant": "7"}},
)
INSTRUCTIONS = lines(
    {"instruction": "Q?", "input": "", "output": "It is \\boxed{7}."},
    {"id": "b", "instruction": "Add.", "input": "3, 4", "output": "7", "subject": "s"},
)
CSV = b'id,question,answer,extra\n1,"Who, then?","Tam ""T"" O",x\n2,q,"two\nlines",\n'


HOP = {"question": "B of Ada?", "cloze": "B of Ada is", "answer": "Bo", "answer_alias": ["B."]}
CASE = {
    "case_id": 1,
    "requested_rewrite": [{"question": "B of Ada?", "subject": "Ada", "relation_id": "P1"}],
    "questions": ["One?", "Two?"],
    "new_answer": "Bo",
    "new_answer_alias": ["bo"],
    "new_single_hops": [HOP, {**HOP, "question": "C of Bo?", "answer": "Cy"}],
}
CASES = [CASE, {**CASE, "case_id": "two", "new_single_hops": [{**HOP, "answer": "Di"}]}]
MODEL = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 10,
    "tie_word_embeddings": True,
}
ARC = {"question": "Q?", "choices": ["red", "light blue"], "answer_index": 1}
HUB_ARC = {
    "question": "Q?",
    "choices": {"text": ["red", "blue"], "label": ["A", "B"]},
    "answerKey": "B",
}
PIQA = {"query": "Question: cook\n", "choices": ["pot", "pan"], "gold": 0}
HUB_PIQA = {"goal": "cook", "sol1": "pot", "sol2": "pan", "label": 1}
MMLU = {"subject": "law", "question": "Q?", "choices": ["a", "b", "c", "d"], "answer": "C"}
TASK = {
    "task_id": "HumanEval/0",
    "prompt": "import os\n\ndef f(x: int) -> int:\n    '''Double.'''\n",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "f",
}
IFEVAL = {
    "key": 1,
    "prompt": "Write 3 words.",
    "instruction_id_list": ["length_constraints:number_words", "keywords:forbidden_words"],
    "kwargs": [{"relation": "at least", "num_words": 3}, {"forbidden_words": ["cat", "dog"]}],
}
IFEVAL_2 = {
    "key": 2,
    "prompt": "Repeat.",
    "instruction_id_list": [
        "length_constraints:nth_paragraph_first_word",
        "keywords:frequency",
        "detectable_format:multiple_sections",
        "punctuation:no_comma",
    ],
    "kwargs": [
        {"first_word": "so", "num_paragraphs": 1, "nth_paragraph": 1},
        {"keyword": "so", "frequency": 1, "relation": "less than"},
        {"section_spliter": "Part", "num_sections": 2, "letter": None},
        {},
    ],
}
# Name of a benchmark -> its local copy's path without the suffix, and rows.
BENCHMARKS: dict[str, tuple[str, bytes]] = {
    "arc_easy": ("arc/ARC-Easy-test", lines(ARC, HUB_ARC, ARC)),
    "piqa": ("piqa/piqa_valid", lines(PIQA, HUB_PIQA)),
    "gsm8k": ("gsm8k/test", lines(*[{"question": "Q?", "answer": "2*9=18\n#### 18"}] * 2)),
    "math500": ("math500/test", lines({"problem": "P", "answer": "\\frac{1}{2}", "level": 1})),
    "aime24": (
        "aime24/aime24",
        lines({"question": "P", "answer": "025"}, {"problem": "R", "answer": 7}),
    ),
    "mmlu": ("mmlu/test", lines(MMLU, {**MMLU, "answer": 2})),
    "humaneval": ("humaneval/HumanEval", lines(TASK)),
    "ifeval": ("ifeval/input_data", lines(IFEVAL, IFEVAL_2)),
    "wikitext2": (
        "wikitext2/test",
        lines({"text": "Some prose. "}, {"text": ""}, {"text": "More."}),
    ),
}
