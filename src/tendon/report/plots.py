"""The eight fixed plots in the order of the page, the path of a test that looked after every pair, and what predicts success.

ReportInputs come in, Figures go out. Adding a ninth question needs a reason that the other eight do not cover.
"""

from __future__ import annotations

from tendon.report.figure import Figure
from tendon.report.plots_bets import path_of_bets
from tendon.report.plots_data import action_spread, data_sane
from tendon.report.plots_prediction import loss_and_success
from tendon.report.plots_result import better_than_champion, where_it_fails, which_trial_won
from tendon.report.plots_training import gpu_fed, training_converged, what_it_cost
from tendon.report.summary import ReportInputs


def figures(inputs: ReportInputs) -> tuple[Figure, ...]:
    """Result first, then training, then data and cost."""
    return (
        better_than_champion(inputs),
        which_trial_won(inputs),
        where_it_fails(inputs),
        training_converged(inputs),
        data_sane(inputs),
        action_spread(inputs),
        gpu_fed(inputs),
        what_it_cost(inputs),
        *path_of_bets(inputs),
        *loss_and_success(inputs),
    )
