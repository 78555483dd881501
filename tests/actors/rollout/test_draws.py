from actors.decoding.picks import draw_picks
from actors.rollout.target_builder import TargetBuilder
from common.config.sections import RolloutSettings
from common.methods import MixSD
from common.records import Work
from tests.actors.rollout.letters import FACTS, prompts


def test_each_draw_of_a_fact_has_its_own_picks_and_seeds_on_any_actor():
    settings = RolloutSettings(max_tokens=40, temperature=1.0)
    name, fact = next(iter(FACTS.items()))
    for lease in (3, 9):
        builder = TargetBuilder(prompts("contains"), MixSD(mix_rate=0.5, draws=3), settings, seed=7)
        attempts = {
            (draw, number): builder.attempt("k", Work(lease, name, draw), fact, number, None)
            for draw in range(3)
            for number in range(2)
        }
        picks = {key: list(attempt.picks) for key, attempt in attempts.items()}
        assert picks == {key: draw_picks(7, name, *key, 0.5, 40) for key in picks}
        assert len({tuple(drawn) for drawn in picks.values()}) == 6
        assert len({attempt.sampling(0).seed for attempt in attempts.values()}) == 6
