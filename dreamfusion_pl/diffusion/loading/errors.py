"""What the loaders of other libraries raise, as one message with a cure."""

from __future__ import annotations

NETWORK = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "requests",
    "urllib3",
)  # modules


def explained(error: Exception, what: str, cure: str) -> ValueError:
    """Return what to raise in the place of whatever a loader raised.

    Args:
        error: that; foreign code raises nearly everything.
        what: what failed.
        cure: what to do about it, where the error does not tell better.
    """
    if _is_of_network(error):
        cure = f"{cure}. Where it is in the hub's cache, HF_HUB_OFFLINE=1 asks nothing of the network"
    elif isinstance(error, ImportError):
        cure = "Install the package that it names"
    return ValueError(f"{what} ({type(error).__name__}): {error}\n{cure}")


def _is_of_network(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (TimeoutError, ConnectionError)):
            return True
        if type(error).__module__.split(".")[0] in NETWORK:
            return True
        error = error.__cause__ or error.__context__
    return False
