"""The methods of the leaderboard, and the settings that its search tries."""

from __future__ import annotations

from typing import NamedTuple

D = "--model.distillation"
OMEGA, LOWEST, HIGHEST, LAW = f"{D}.guidance_scale", f"{D}.t_min", f"{D}.t_max", f"{D}.time_law"


class Method(NamedTuple):
    """One row of the board."""

    words: tuple[str, ...]  # in place of SDS
    rows: float  # rows of the network's calls per view and step; SDS with guidance has 2
    paper: float = 6.5  # omega of its paper, for Stable Diffusion
    best: str = "as SDS"  # the settings that the search found
    note: str = ""
    first: float = 0.0  # share of the budget that SDS has before it
    papers: tuple[str, ...] = ()  # more of its paper's settings

    @property
    def falls(self) -> bool:
        """Whether its law makes times fall, so that the highest time is that of the start."""
        return LAW in self.words


def _variant(name: str, *words: str) -> tuple[str, ...]:
    return (D, name, OMEGA, "6", *words)


FALLING = (LAW, "FallingTimes")
DREAMTIME = (LAW, "PriorWeightedTimes", f"{LAW}.center", "0.5", f"{LAW}.width", "0.2")
NEGATIVE, SOURCE = f"{D}.negative_text", f"{D}.source_text"
METHODS = {
    "SDS": Method((), 2, 100),
    "SDS, two draws": Method((f"{D}.draws", "2"), 4, 100),
    "SDS, rescaled": Method((f"{D}.adjustment", "Rescale"), 2, 49),
    "SDS, clipped": Method((f"{D}.adjustment", "Clip", f"{D}.adjustment.bound", "2"), 2, 100),
    "RFDS": Method((f"{D}.weighting", "Velocity"), 2, 100),
    "DreamTime": Method(DREAMTIME, 2, 100, papers=(f"{LAW}.center", "0.8", f"{LAW}.width", "0.3")),
    "HiFA": Method(_variant("DenoisedPictures", *FALLING), 2, 100, note="one step"),
    "SIR": Method(_variant("IterativeReconstruction", *FALLING), 1, 100, note="two passes"),
    "CSD": Method(_variant("ClassifierScoreDistillation"), 2, 100),
    "NFSD": Method(_variant("NoiseFreeDistillation", NEGATIVE, "a gray ball"), 3, note="from a gray ball"),
    "SDS-Bridge": Method(
        _variant("BridgeDistillation", SOURCE, "a gray {}"), 3, 100, note="second half, from gray", first=0.5
    ),
    "ASD": Method(_variant("AsynchronousDistillation"), 3),
    "ISM": Method(_variant("IntervalScoreMatching"), 7.5, note="inversion of 4 or 5 steps"),
    "SDI": Method(_variant("InversionDistillation", *FALLING, f"{D}.steps", "3"), 8, note="3 steps"),
    "VSD": Method(_variant("VariationalDistillation"), 6, note="its training counts as 3"),
}


def candidates(method: Method) -> dict[str, tuple[str, ...]]:
    """The settings that the search tries, as words of ``fit``."""
    later = ("t from .3", (LOWEST, ".3")) if method.falls else ("t to .5", (f"{HIGHEST}.last", ".5"))
    return {
        "as SDS": (),
        "omega 3": (OMEGA, "3"),
        "omega 12": (OMEGA, "12"),
        later[0]: later[1],
        "paper": (OMEGA, f"{method.paper:g}", LOWEST, ".02", HIGHEST, ".98", *method.papers),
    }
