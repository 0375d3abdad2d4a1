"""Optimizers that ``torch.optim`` does not have."""

from __future__ import annotations

import copyreg
from typing import Any, final

import torch
from pytorch_optimizer import ScalableShampoo
from pytorch_optimizer.optimizer.utils.graft import LayerWiseGrafting, SQRTNGraft
from pytorch_optimizer.optimizer.utils.partition import BlockPartitioner, PreConditionerType
from pytorch_optimizer.optimizer.utils.preconditioner import PreConditioner
from torch.optim import Optimizer

# Shampoo's state holds these objects, and checkpoints are read with weights_only=True, which only loads
# classes that are registered here.
torch.serialization.add_safe_globals([PreConditioner, BlockPartitioner, SQRTNGraft, PreConditionerType])


def _by_value(kind: PreConditionerType) -> tuple[type[PreConditionerType], tuple[int]]:
    return PreConditionerType, (kind.value,)


copyreg.pickle(PreConditionerType, _by_value)  # Python 3.11.0 to 3.11.3 would store a call of getattr


@final
class Shampoo(ScalableShampoo):
    """Shampoo with the paper's settings (A.2), from the library pytorch-optimizer (Apache-2.0).

    Of the maintained libraries it is the only one with all features of the paper's Distributed Shampoo:
    blocking, an exponent override, a decaying second moment and grafting. The step size is grafted from sign
    descent (SQRT_N in the reference implementation). The library computes inverse roots from a random start
    vector of the global generator. That generator is seeded with the step number before every step, so that
    a resumed run continues exactly.

    Args:
        params: parameters or parameter groups; every group may have its own ``lr``.
        lr: learning rate.
        betas: decay of the momentum and of the statistics, each in [0, 1).
        exponent: the preconditioners are the statistics to the power of -1 / ``exponent``.
        block_size: larger matrices are split into blocks of this side, each with its own preconditioner.
        epsilon: added to the diagonal of the statistics.
        refresh_every: steps between two updates of the preconditioners.

    Raises:
        ValueError: a count is not positive.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.9),
        exponent: int = 2,
        block_size: int = 128,
        epsilon: float = 1e-6,
        refresh_every: int = 10,
    ) -> None:
        if min(exponent, block_size, refresh_every) < 1:
            raise ValueError(
                "exponent, block_size and refresh_every must be 1 or more, "
                f"got {exponent}, {block_size} and {refresh_every}"
            )
        super().__init__(
            params,
            lr=lr,
            betas=(betas[0], betas[1]),
            inverse_exponent_override=exponent,
            block_size=block_size,
            preconditioning_compute_steps=refresh_every,
            start_preconditioning_step=refresh_every,
            graft_type=LayerWiseGrafting.SQRTN,
            matrix_eps=epsilon,
        )
        self.register_step_pre_hook(_seed_with_step)


def _seed_with_step(optimizer: Optimizer, *_: Any) -> None:
    torch.manual_seed(int(optimizer.param_groups[0].get("step", 0)))
