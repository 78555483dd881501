"""The change δ of a hidden state after which the model predicts a fact's target.

For each fact, z = h + δ at the output of the last edited layer and the subject's last token, with

    δ = argmin  −mean log p(target | h + δ) + kl · KL(p(· | δ) ‖ p) + decay · (‖δ‖ / ‖h‖)²

and ‖δ‖ ≤ clamp · ‖h‖ (arXiv 2210.07229, §4.3; KL term: Meng et al. 2022, arXiv 2202.05262, eq. 4).
Facts do not touch each other: Adam works on each number alone, and the objective is a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from common.methods import MemoryEdit
from learner.editing.model import EditedModel
from learner.editing.requests import Request


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts with their hidden states, which δ is added to.

    ``hidden_NTD``  output of the last edited layer
    ``keys_LNF``    input of each edited matrix at the subject's last token
    """

    requests: Sequence[Request]
    hidden_NTD: torch.Tensor
    keys_LNF: list[torch.Tensor]
    positions_N: torch.Tensor

    @classmethod
    def of(cls, model: EditedModel, requests: Sequence[Request]) -> Batch:
        """Run the lower layers."""
        keys, hidden_NTD = model.lower(model.padded([request.inputs for request in requests]))
        at = torch.as_tensor([request.site.position for request in requests], device=model.device)
        return cls(requests, hidden_NTD, [_at(key, at) for key in keys], at)

    @property
    def hidden_ND(self) -> torch.Tensor:
        """The hidden state of each fact at its subject's last token."""
        return _at(self.hidden_NTD, self.positions_N)

    def target_nll(self, model: EditedModel, delta_ND: torch.Tensor | None = None) -> torch.Tensor:
        """[N] summed −log p of each fact's target tokens (nats), after a change of h."""
        states_NTD = model.upper(_moved(self.hidden_NTD, self.positions_N, delta_ND))
        facts: list[int] = []
        places: list[int] = []
        tokens: list[int] = []
        for fact, request in enumerate(self.requests):
            first = len(request.prompt) - 1
            facts += [fact] * len(request.target)
            places += range(first, first + len(request.target))
            tokens += request.target
        facts_K, places_K, tokens_K = (
            torch.as_tensor(part, device=model.device) for part in (facts, places, tokens)
        )
        log_probs_K = model.log_probs(states_NTD[facts_K, places_K]).gather(1, tokens_K[:, None])
        nll_N = log_probs_K.new_zeros(len(self.requests))
        return nll_N.index_add(0, facts_K, -log_probs_K[:, 0])


def find(
    model: EditedModel, batch: Batch, edit: MemoryEdit, progress: Callable[[], None]
) -> torch.Tensor:
    """δ [N, D] of every fact of a batch; ``progress`` is called after each step."""
    lengths_N = torch.as_tensor([len(one.target) for one in batch.requests], device=model.device)
    drift = _essence_drift(model, batch.requests) if edit.kl > 0 else None
    # In units of the hidden state's RMS, so that one learning rate fits all models.
    width = batch.hidden_ND.shape[1]
    unit_N1 = batch.hidden_ND.norm(dim=1, keepdim=True) / width**0.5
    change_ND = torch.zeros_like(batch.hidden_ND, requires_grad=True)
    adam = torch.optim.Adam([change_ND], lr=edit.lr)
    for _ in range(edit.gradient_steps):
        delta_ND = change_ND * unit_N1
        loss = (batch.target_nll(model, delta_ND) / lengths_N).sum()
        loss = loss + edit.decay * change_ND.square().sum() / width
        if drift is not None:
            loss = loss + edit.kl * drift(delta_ND)
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            change_ND.copy_(torch.renorm(change_ND, 2, 0, edit.clamp * width**0.5))
        progress()
    return (change_ND * unit_N1).detach()


def _essence_drift(
    model: EditedModel, requests: Sequence[Request]
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """KL(p(· | δ) ‖ p) after the neutral prompts, summed over facts; None if no fact has one."""
    found = [(fact, one.site.essence) for fact, one in enumerate(requests) if one.site.essence]
    if not found:
        return None
    facts, essences = zip(*found, strict=True)
    _, hidden_NTD = model.lower(model.padded([essence.ids for essence in essences]))
    facts_N, at_N, ends_N = (
        torch.as_tensor(values, device=model.device)
        for values in (
            facts,
            [essence.position for essence in essences],
            [len(essence.ids) - 1 for essence in essences],
        )
    )

    def log_probs(delta_ND: torch.Tensor | None) -> torch.Tensor:
        return model.log_probs(_at(model.upper(_moved(hidden_NTD, at_N, delta_ND)), ends_N))

    with torch.no_grad():
        before_NV = log_probs(None)

    def drift(delta_ND: torch.Tensor) -> torch.Tensor:
        after_NV = log_probs(delta_ND[facts_N])
        return (after_NV.exp() * (after_NV - before_NV)).sum()

    return drift


def _at(values_NTX: torch.Tensor, positions_N: torch.Tensor) -> torch.Tensor:
    """One position of each sequence."""
    rows_N = torch.arange(len(positions_N), device=positions_N.device)
    return values_NTX[rows_N, positions_N]


def _moved(
    hidden_NTD: torch.Tensor, positions_N: torch.Tensor, delta_ND: torch.Tensor | None
) -> torch.Tensor:
    """The hidden states with δ added at one position of each sequence."""
    if delta_ND is None:
        return hidden_NTD
    rows_N = torch.arange(len(positions_N), device=positions_N.device)
    return hidden_NTD.index_put((rows_N, positions_N), delta_ND, accumulate=True)
