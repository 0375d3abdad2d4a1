"""The methods of the leaderboard, and the settings that its search tries."""

from __future__ import annotations

from typing import NamedTuple

D = "--model.distillation"
OMEGA, LOWEST, HIGHEST, LAW = f"{D}.guidance_scale", f"{D}.t_min", f"{D}.t_max", f"{D}.time_law"
NEGATIVE, SOURCE = f"{D}.negative_text", f"{D}.source_text"
FALLING = (LAW, "FallingTimes")
DREAMTIME = (LAW, "PriorWeightedTimes", f"{LAW}.center", "0.5", f"{LAW}.width", "0.2")
WHOLE = (LOWEST, ".02", HIGHEST, ".98")
FALLS = (LOWEST, ".02", f"{HIGHEST}.last", ".5")  # from .98


class Method(NamedTuple):
    """One row of the board."""

    words: tuple[str, ...]  # in place of SDS
    rows: float  # rows of the network's calls per view and step; SDS with guidance has 2
    paper: tuple[str, ...]  # omega and times of its paper or its authors' code, for Stable Diffusion
    best: str = "as SDS"  # the settings that the search found
    note: str = ""
    first: float = 0.0  # share of the budget that SDS has before it

    @property
    def falls(self) -> bool:
        """Whether its law makes times fall, so that the highest time is that of the start."""
        return LAW in self.words


def _variant(name: str, *words: str) -> tuple[str, ...]:
    return (D, name, OMEGA, "6", *words)


METHODS = {
    "SDS": Method((), 2, (OMEGA, "100", *WHOLE), best="t to .5"),
    "SDS, two draws": Method((f"{D}.draws", "2"), 4, (OMEGA, "100", *WHOLE), best="t to .5"),
    "SDS, rescaled": Method((f"{D}.adjustment", "Rescale"), 2, (OMEGA, "49", *FALLS), best="t to .5"),
    "SDS, clipped": Method(
        (f"{D}.adjustment", "Clip", f"{D}.adjustment.bound", "2"), 2, (OMEGA, "100", *WHOLE), best="t to .5"
    ),
    "RFDS": Method((f"{D}.weighting", "Velocity"), 2, (OMEGA, "49", *WHOLE), best="t to .5"),
    "DreamTime": Method(
        DREAMTIME, 2, (OMEGA, "100", *WHOLE, f"{LAW}.center", "0.8", f"{LAW}.width", "0.3"), best="t from .3"
    ),
    "HiFA": Method(
        _variant("DenoisedPictures", *FALLING),
        2,
        (OMEGA, "99", LOWEST, ".3", HIGHEST, ".98"),
        note="one step",
        best="t from .3",
    ),
    "SIR": Method(
        _variant("IterativeReconstruction", *FALLING),
        1,
        (OMEGA, "6.5", LOWEST, ".5", HIGHEST, ".8", f"{LAW}.power", "1"),
        note="two passes",
    ),
    "CSD": Method(_variant("ClassifierScoreDistillation"), 2, (OMEGA, "1", *FALLS), best="paper"),
    "NFSD": Method(
        _variant("NoiseFreeDistillation", NEGATIVE, "a gray ball"),
        3,
        (OMEGA, "6.5", *WHOLE),
        note="from a gray ball",
        best="omega 12",
    ),
    "SDS-Bridge": Method(
        _variant("BridgeDistillation", SOURCE, "a gray {}"),
        2,
        (OMEGA, "39", *WHOLE),
        note="second half, from gray",
        best="omega 3",
        first=0.5,
    ),
    "ASD": Method(_variant("AsynchronousDistillation"), 3, (OMEGA, "6.5", *FALLS), best="t to .5"),
    "ISM": Method(
        _variant("IntervalScoreMatching"),
        7.5,
        (OMEGA, "6.5", *FALLS),
        note="inversion of 4 or 5 steps",
        best="omega 3",
    ),
    "SDI": Method(
        _variant("InversionDistillation", *FALLING, f"{LAW}.power", "1", f"{D}.steps", "3"),
        8,
        (OMEGA, "6.5", LOWEST, ".2", HIGHEST, ".98"),
        note="3 steps",
        best="paper",
    ),
    "VSD": Method(
        _variant("VariationalDistillation"), 6, (OMEGA, "6.5", *FALLS), note="its training counts as 3"
    ),
}


def candidates(method: Method) -> dict[str, tuple[str, ...]]:
    """The settings that the search tries, as words of ``fit``."""
    later = ("t from .3", (LOWEST, ".3")) if method.falls else ("t to .5", (f"{HIGHEST}.last", ".5"))
    return {
        "as SDS": (),
        "omega 3": (OMEGA, "3"),
        "omega 12": (OMEGA, "12"),
        later[0]: later[1],
        "paper": method.paper,
    }
