"""KGFact: a graph of made-up entities, one fact an edge.

Fourteen domains, ten directed relations for every ordered pair of them; the
templates are data (``relations/``). Nothing here knows about prompts, models
or where a corpus is written.
"""

from common.corpora.kgfact.check import check, check_facts, check_retrieval
from common.corpora.kgfact.graph import KGFact, KGFactSpec, build
from common.corpora.kgfact.names import DOMAINS
from common.corpora.kgfact.relations import Relation, relations

__all__ = [
    "DOMAINS",
    "KGFact",
    "KGFactSpec",
    "Relation",
    "build",
    "check",
    "check_facts",
    "check_retrieval",
    "relations",
]
