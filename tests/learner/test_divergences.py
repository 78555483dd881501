"""Divergences against their definition in float64, on small vocabularies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.methods import Divergence
from learner import divergences
from learner.divergences import FullTeacher, TopKTeacher, distill, divergence

KINDS = ("forward", "reverse", "mixed", "jsd")
V, D, K = 12, 6, 5


def spec(kind="forward", support="full", weight=0.3, top_k=4) -> Divergence:
    return Divergence(kind, weight, support, top_k, "learner")


def brute(student_KV, teacher_KV, loss: Divergence, ids_KN=None) -> torch.Tensor:
    """Sums over explicit lists of buckets, position by position."""
    total = torch.zeros((), dtype=torch.float64)
    for k, (student, teacher) in enumerate(
        zip(student_KV.softmax(-1), teacher_KV.softmax(-1), strict=True)
    ):
        s, t = list(student), list(teacher)
        if loss.support != "full":
            ids = (
                sorted(range(len(t)), key=lambda i: -t[i])[: loss.top_k]
                if ids_KN is None
                else ids_KN[k].tolist()
            )
            rest = [i for i in range(len(t)) if i not in ids]
            s, t = [[side[i] for i in ids] + [sum(side[i] for i in rest)] for side in (s, t)]
            if loss.support == "top_k":
                s, t = [[p / sum(side[:-1]) for p in side[:-1]] for side in (s, t)]
            elif not rest:
                s, t = s[:-1], t[:-1]
        forward = sum(q * (q / p).log() for p, q in zip(s, t, strict=True))
        reverse = sum(p * (p / q).log() for p, q in zip(s, t, strict=True))
        w = loss.weight
        mid = [w * q + (1 - w) * p for p, q in zip(s, t, strict=True)]
        jsd = sum(w * q * (q / m).log() for q, m in zip(t, mid, strict=True))
        jsd += sum((1 - w) * p * (p / m).log() for p, m in zip(s, mid, strict=True))
        total = (
            total
            + {
                "forward": forward,
                "reverse": reverse,
                "mixed": w * forward + (1 - w) * reverse,
                "jsd": jsd,
            }[loss.kind]
        )
    return total


def tensors(teacher_width=D):
    torch.manual_seed(0)
    student = [torch.randn(K, D), torch.randn(V, D), torch.randn(V)]
    teacher = [torch.randn(K, teacher_width), torch.randn(V, teacher_width), torch.randn(V)]
    return [part.requires_grad_() for part in student], teacher


def doubles(parts):
    return [part.detach().double().requires_grad_() for part in parts]


def assert_same(found, expected, parts, references):
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    # As the engine does: the loss is scaled before its backward pass.
    for gradient, reference in zip(
        torch.autograd.grad(3 * found, parts),
        torch.autograd.grad(3 * expected, references),
        strict=True,
    ):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [V, 2 * V, 2**20], ids=["one", "two", "all at once"])
@pytest.mark.parametrize("support", ["full", "top_k", "tail"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_equal_the_definition_in_float64(monkeypatch, kind, support, chunk):
    monkeypatch.setattr(divergences, "CHUNK_NUMBERS", chunk)
    parts, (hidden, weight, bias) = tensors(teacher_width=3)
    references = doubles(parts)
    loss = spec(kind, support)
    found = distill(*parts, FullTeacher(hidden, weight, bias), loss)
    theirs = hidden.double() @ weight.double().T + bias.double()
    h, w, b = references
    assert_same(found, brute(h @ w.T + b, theirs, loss), parts, references)


@pytest.mark.parametrize("support", ["top_k", "tail"])
@pytest.mark.parametrize("kind", KINDS)
def test_top_k_of_an_engine_gives_the_same_loss_as_the_full_teacher(kind, support):
    parts, (hidden, weight, bias) = tensors()
    whole = FullTeacher(hidden, weight, bias)
    log_p = (hidden @ weight.T + bias).log_softmax(-1)
    scores = log_p.topk(4)
    given_scores = TopKTeacher(scores.indices, scores.values)
    one, other = (
        distill(*parts, teacher, spec(kind, support)) for teacher in (whole, given_scores)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(one, parts), torch.autograd.grad(other, parts), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("top_k", [V, V + 5])
@pytest.mark.parametrize("support", ["top_k", "tail"])
@pytest.mark.parametrize("kind", KINDS)
def test_top_k_of_the_vocabulary_size_equals_full_support(kind, support, top_k):
    parts, teacher = tensors()
    narrow = distill(*parts, FullTeacher(*teacher), spec(kind, support, top_k=top_k))
    full = distill(*parts, FullTeacher(*teacher), spec(kind))
    torch.testing.assert_close(narrow, full, rtol=1e-5, atol=1e-5)


def test_two_hand_worked_coins():
    # T = (1/2, 1/2), S = (1/4, 3/4).
    teacher, student = (torch.tensor([[p, 1 - p]]).log() for p in (0.5, 0.25))
    forward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    reverse = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert float(divergence(student, teacher, spec())) == pytest.approx(forward, abs=1e-6)
    assert float(divergence(student, teacher, spec("reverse"))) == pytest.approx(reverse, abs=1e-6)
    mixed = 0.3 * forward + 0.7 * reverse
    assert float(divergence(student, teacher, spec("mixed"))) == pytest.approx(mixed, abs=1e-6)


def test_a_tail_sees_what_renormalising_hides():
    # The same odds among the top two, but the student keeps half of its mass elsewhere.
    teacher = torch.tensor([[0.6, 0.3, 0.05, 0.05]]).log()
    student = torch.tensor([[1 / 3, 1 / 6, 1 / 4, 1 / 4]]).log()
    whole = FullTeacher(teacher, torch.eye(4), None)
    hidden, head = student, torch.eye(4)
    hidden_mass = distill(hidden, head, None, whole, spec(support="top_k", top_k=2))
    seen = distill(hidden, head, None, whole, spec(support="tail", top_k=2))
    assert float(hidden_mass) == pytest.approx(0.0, abs=1e-6)
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(seen) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_top_k_whose_mass_rounds_to_one_leaves_a_finite_tail(kind):
    scores = TopKTeacher(torch.tensor([[1, 0]]), torch.tensor([[-1e-7, -20.0]]))
    loss = distill(torch.zeros(1, 4), torch.randn(4, 4), None, scores, spec(kind, "tail", top_k=2))
    assert 0 <= float(loss) < math.inf


def test_a_frozen_head_gets_no_gradient():
    (hidden, weight, _), teacher = tensors()
    loss = distill(hidden, weight.detach(), None, FullTeacher(*teacher), spec())
    (gradient,) = torch.autograd.grad(loss, [hidden])
    assert gradient.shape == hidden.shape


def test_a_teacher_of_other_positions_or_another_vocabulary_is_refused():
    parts, (hidden, weight, bias) = tensors()
    with pytest.raises(ValueError, match="4 target positions, the student 5"):
        distill(*parts, FullTeacher(hidden[:4], weight, bias), spec())
    with pytest.raises(ValueError, match="11 tokens in its vocabulary, the student 12"):
        distill(*parts, FullTeacher(hidden, weight[:11], bias[:11]), spec())


def test_only_one_chunk_of_logits_exists_at_a_time(monkeypatch):
    sizes = []
    loss_and_gradient = divergences._loss_and_gradient

    def noted(logits_CV, *rest):
        sizes.append(tuple(logits_CV.shape))
        return loss_and_gradient(logits_CV, *rest)

    monkeypatch.setattr(divergences, "_loss_and_gradient", noted)
    monkeypatch.setattr(divergences, "CHUNK_NUMBERS", 2 * V + 3)
    parts, teacher = tensors()
    distill(*parts, FullTeacher(*teacher), spec())
    assert sizes == [(2, V), (2, V), (1, V)]


logits = st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V)
losses = st.builds(
    spec,
    st.sampled_from(KINDS),
    st.sampled_from(("full", "top_k", "tail")),
    st.floats(0.01, 0.99),
    st.integers(1, V),
)


def between(student, teacher, loss: Divergence) -> float:
    eye = torch.eye(V)
    whole = FullTeacher(torch.tensor([teacher]), eye, None)
    return float(distill(torch.tensor([student]), eye, None, whole, loss))


@settings(max_examples=150, deadline=None)
@given(logits, logits, losses)
def test_a_divergence_is_never_negative_and_a_jsd_at_most_the_entropy_of_its_mixture(s, t, loss):
    found = between(s, t, loss)
    assert found >= -1e-5
    if loss.kind == "jsd":
        b = loss.weight
        assert found <= -b * math.log(b) - (1 - b) * math.log(1 - b) + 1e-5 <= math.log(2) + 2e-5


@settings(max_examples=60, deadline=None)
@given(logits, losses)
def test_equal_distributions_have_zero_divergence(s, loss):
    assert between(s, [x + 1.0 for x in s], loss) == pytest.approx(0.0, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(logits, st.sampled_from(KINDS))
def test_different_distributions_have_positive_divergence(s, kind):
    # The likeliest token of one is made a tenth as likely as before.
    index = max(range(V), key=lambda i: s[i])
    other = [x - (2.3 if i == index else 0.0) for i, x in enumerate(s)]
    mass = float(torch.tensor(s).softmax(-1)[index])
    if mass < 0.999:
        assert between(s, other, spec(kind)) > 1e-5


@settings(max_examples=60, deadline=None)
@given(logits, logits)
def test_jsd_at_one_half_is_symmetric(s, t):
    loss = spec("jsd", weight=0.5)
    assert between(s, t, loss) == pytest.approx(between(t, s, loss), abs=1e-5)
