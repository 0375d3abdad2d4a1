"""Turns errors of other libraries' loaders into one message with a cure."""

from __future__ import annotations

NETWORK = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "requests",
    "urllib3",
)  # packages whose exceptions are network errors


def explained(error: Exception, what: str, cure: str) -> ValueError:
    """Return the ValueError to raise instead of a loader's exception.

    Args:
        error: the loader's exception, of any type.
        what: what failed.
        cure: how to fix it; replaced if ``error`` is an ImportError.
    """
    if _is_network_error(error):
        cure = f"{cure}. If it is in the hub's cache, HF_HUB_OFFLINE=1 loads it without a network"
    elif isinstance(error, ImportError):
        cure = "Install the package that it names"
    return ValueError(f"{what} ({type(error).__name__}): {error}\n{cure}")


def _is_network_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (TimeoutError, ConnectionError)):
            return True
        if type(error).__module__.split(".")[0] in NETWORK:
            return True
        error = error.__cause__ or error.__context__
    return False
