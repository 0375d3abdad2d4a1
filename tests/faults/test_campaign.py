"""The campaign of faults in short: a few of each kind."""

import kinds
import leaves
import pytest


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, fault",
    [
        ("killed", lambda place: kinds.kills(place, 2, while_saving=False)),
        ("saving", lambda place: kinds.kills(place, 1, while_saving=True)),
        ("damage", kinds.damage),
        ("code", kinds.code_in_a_checkpoint),
        ("another", kinds.another_configuration),
        ("full", kinds.full_disk),
        ("folder", kinds.no_folder),
        ("prompts", lambda place: kinds.odd_prompts(place, 2)),
        ("leaves", lambda place: leaves.odd_leaves(place, every=150, first=7)),
        ("yaml", lambda place: kinds.odd_yaml(place, 2)),
    ],
)
def test_fault(tmp_path, name, fault):
    tally = fault(tmp_path / name)
    assert tally.survived == tally.tried > 0, tally
