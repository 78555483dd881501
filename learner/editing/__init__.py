"""MEMIT: closed-form edits of MLP down-projections (Meng et al. 2023, arXiv 2210.07229).

``engine`` takes the place of the training engine. ``deltas`` finds the hidden state that a fact
needs, ``closed_form`` the weights that give it, and ``model`` computes the passes of both.
Differences from the paper:

- a fact has its own prompt alone, without random texts before it;
- the covariance of old keys is that of a text file, or of samples of the base model, not of
  Wikipedia, and λ is in units of the MLP's width;
- the learning rate is in units of the hidden state's RMS, and every fact takes all its steps;
- a fact without a subject, or whose prompt does not contain it, is edited at the last token of
  its prompt, without a KL term.

Shape suffixes: N facts, T tokens, D width of the model, F width of the MLP, K target tokens.
"""
