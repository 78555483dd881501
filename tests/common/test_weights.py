import torch
from hypothesis import given
from hypothesis import strategies as st

from common.weights import BitSum, bit_sum, difference, sampled


def test_a_bit_sum_adds_the_squares_of_bit_patterns():
    # bfloat16: 1.0 is 0x3f80 = 16256, -0.0 is 0x8000, as a signed number -32768.
    assert bit_sum(torch.tensor([1.0, -0.0], dtype=torch.bfloat16)) == (2, 16256**2 + 32768**2)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.integers(0, 40))
def test_the_sums_of_parts_add_up_to_that_of_the_whole(numbers, at):
    whole = torch.tensor(numbers, dtype=torch.float32)
    assert bit_sum(whole[:at]) + bit_sum(whole[at:]) == bit_sum(whole)


def test_one_flipped_bit_changes_it():
    weights = torch.randn(1000, dtype=torch.float32)
    before = bit_sum(weights)
    weights.view(torch.int32)[500] ^= 1
    assert bit_sum(weights) != before


A, B, AB = BitSum(2, 10), BitSum(3, 20), BitSum(5, 30)


def test_an_engine_may_hold_a_weight_whole_on_each_device_or_in_parts():
    assert difference({"w": AB}, [{"w": AB}, {"w": AB}]) is None
    assert difference({"w": AB}, [{"w": A}, {"w": B}]) is None
    assert difference({"w": AB, "fused": A}, [{"w": AB}]) is None


def test_a_device_that_has_something_else_is_told_from_the_rest():
    other = BitSum(5, 31)
    assert difference({"w": AB}, [{"w": AB}, {"w": other}]) == "w is not what was published"
    assert difference({"w": AB}, [{"w": A}, {"w": BitSum(3, 21)}]) == "w is not what was published"


def test_an_engine_of_which_nothing_can_be_read_back_has_not_been_checked():
    problem = difference({"w": AB}, [{"other": AB}, {}])
    assert problem == "none of the weights that are summed can be read back"


def test_weights_are_sampled_from_first_middle_and_last_layers():
    sizes = {f"layers.{n}.mlp.down_proj.weight": 9 for n in range(5)}
    sizes |= {
        "layers.0.mlp.up_proj.weight": 9,
        "model.norm.weight": 9,
        "embed_tokens.weight": 2**28,
    }
    assert sampled(sizes) == [
        "layers.0.mlp.down_proj.weight",
        "layers.2.mlp.down_proj.weight",
        "layers.4.mlp.down_proj.weight",
        "model.norm.weight",
    ]
