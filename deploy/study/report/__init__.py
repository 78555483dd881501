"""The report of a study: its arms compared, from the folders of its runs.

``measured`` reads a finished cell; ``lr_selection`` chooses each arm's learning rate; ``arms``
gathers the cells of an arm over seeds, and arms that can be compared in groups. On these work
``comparisons`` (paired tests, equal recall), ``correlations``, ``tables``, ``pictures`` and
``answers``. ``page`` and ``terminal`` show the result.
"""

from deploy.study.report.page import write_study_report
from deploy.study.report.terminal import compare_study

__all__ = ["compare_study", "write_study_report"]
