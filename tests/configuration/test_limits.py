"""Numbers that nothing can be computed with are refused by name."""

import pytest

from dreamfusion_pl.configuration.limits import check_numbers, check_trainer

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("number", [NAN, INF, -INF, 1e30, -1e7, 1e-30])
def test_a_number_that_is_not_finite_or_absurd(number):
    tree = {"model": {"init_args": {"scene": {"init_args": {"radius": number}}}}}
    with pytest.raises(ValueError, match=r"^model\.scene\.radius: "):
        check_numbers(tree)
    with pytest.raises(ValueError, match=r"^data\.focal\.1: "):
        check_numbers({"data": {"init_args": {"focal": [1.0, number]}}})


def test_numbers_that_can_be_computed_with():
    check_numbers(
        {"seed_everything": 2**32 - 1, "a": [0.0, 1e6, -1e6, 1e-15], "b": True, "c": "nan", "d": None}
    )
    with pytest.raises(ValueError, match="a whole number is at most"):
        check_numbers({"model": {"renderer": {"num_samples": 2**40}}})


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ({"val_check_interval": 0}, "trainer.val_check_interval must be above 0"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch"),
        ({"accumulate_grad_batches": -1}, "accumulate_grad_batches"),
        ({"devices": ""}, "trainer.devices"),
        ({"logger": {"init_args": {"flush_secs": ""}}}, "trainer.logger.flush_secs must be a whole number"),
        ({"logger": [{"init_args": {"filename_suffix": 0}}]}, "filename_suffix must be a text"),
    ],
)
def test_what_the_trainer_would_fail_with_later(trainer, said):
    with pytest.raises(ValueError, match=said):
        check_trainer(trainer)


def test_a_usual_trainer_passes():
    check_trainer(
        {"val_check_interval": 1.0, "devices": "auto", "logger": True, "accumulate_grad_batches": 1}
    )
