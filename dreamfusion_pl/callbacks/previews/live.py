"""Live view of the object in a browser during training (viser; extra ``[viewer]``)."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.callbacks.previews.prior_view import prior_view
from dreamfusion_pl.data.orbit import GRAY, orbit
from dreamfusion_pl.types import Views

if TYPE_CHECKING:
    from viser import CameraHandle, GuiCheckboxHandle, ViserServer

LOOPBACK = "127.0.0.1"  # not reachable from the network
MOST_ASPECT = 3.0  # width of a picture in heights
AFTER = 4  # steps after a picture that it may slow down


@final
class LiveView(Callback):
    """Serves a page on this machine that shows the current scene from the viewer's camera.

    Off by default. To switch it on, add it to the callbacks:
    ``--trainer.callbacks+=dreamfusion_pl.callbacks.previews.live.LiveView``. Nothing is rendered while no
    browser is connected. A checkbox of the page shows what the prior wants to see from there instead.

    Args:
        port: port of the page; if it is in use, the next free one is taken.
        size: height of the images in pixels.
        share: fraction of the time that they may take from training, in (0, 1): what rendering takes, and
            what the steps after it take longer, because the page's threads send the picture meanwhile.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, port: int = 8080, size: int = 128, share: float = 0.05) -> None:
        if not 0 < port < 65536 or not 8 <= size <= 2048 or not 0.0 < share < 1.0:
            raise ValueError(
                "port must be 1 to 65535, size 8 to 2048 and share between 0 and 1, "
                f"got {port}, {size} and {share}"
            )
        self.port, self.size, self.share = port, size, share
        self._server: ViserServer | None = None
        self._wants: GuiCheckboxHandle | None = None
        self._reported: set[int] = set()  # clients whose rendering failed
        self._began: float | None = None  # when the current step began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the server and print its address; of several, as a resumed run may have, only the last does.

        Raises:
            ValueError: viser is not installed.
        """
        others = [one for one in trainer.callbacks if isinstance(one, LiveView)]
        if not trainer.is_global_zero or self is not others[-1]:
            return
        try:
            import viser
        except ImportError as error:
            raise ValueError(
                "the live view needs viser: pip install 'dreamfusion_pl[viewer]', or remove LiveView from "
                "the callbacks"
            ) from error
        self._server = viser.ViserServer(host=LOOPBACK, port=self.port, verbose=False)
        self._server.scene.set_up_direction("+z")
        self._server.initial_camera.position = (1.4, 0.0, 0.5)
        self._server.initial_camera.look_at = (0.0, 0.0, 0.0)
        self._wants = self._server.gui.add_checkbox("what the prior wants to see", False)
        self._throttle = Throttle(self.share, time.monotonic())
        print(f"live view: http://{LOOPBACK}:{self._server.get_port()}", flush=True)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of a step."""
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Render for every connected client, if the time share allows it.

        An error never ends training. A client whose rendering fails is skipped, and reported once.
        """
        if self._server is None:
            return
        begin = time.monotonic()
        if self._began is not None:
            self._throttle.stepped(begin - self._began)
        if not self._throttle.is_due(begin):
            return
        clients: dict[int, Any] = {}
        try:
            clients = self._server.get_clients()
            for number, client in clients.items():
                self._try_to_show(pl_module, number, client)
        except Exception as error:
            print(f"dreamfusion_pl: warning: the live view ends: {error}", file=sys.stderr, flush=True)
            self._close()
        if clients:
            self._throttle.took(begin, time.monotonic())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the server."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the server."""
        self._close()

    def _try_to_show(self, module: LightningModule, number: int, client: Any) -> None:
        try:
            _show(module, client, self.size, self._wants is not None and self._wants.value)
        except Exception as error:  # the camera comes from the browser and may be anything
            if number not in self._reported:
                self._reported.add(number)
                message = f"visitor {number} of the live view got no picture: {error}"
                print(f"dreamfusion_pl: warning: {message}", file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


@torch.no_grad()
def _show(module: LightningModule, client: Any, size: int, wants: bool) -> None:
    aspect = float(client.camera.aspect)
    views = camera_view(client.camera, size, 1.0 if wants else aspect)  # priors see squares
    views = Views(*(part.to(module.device) for part in views))
    rendering = module(views, needs_normals=False)
    picture = rendering.rgb[0]
    if wants:
        picture = _padded(prior_view(module, views, rendering)[0], aspect)
    pixels = (picture.clamp(0.0, 1.0) * 255.0).byte().cpu().numpy()
    client.scene.set_background_image(pixels, format="jpeg")


def _padded(square: Tensor, aspect: float) -> Tensor:
    """Put a square picture [S, S, 3] into the middle of a gray one of a window's aspect ratio."""
    share = min(max(aspect, 1.0 / MOST_ASPECT), MOST_ASPECT)
    beside, above = (max(0, round(len(square) * (one - 1.0) / 2.0)) for one in (share, 1.0 / share))
    sides = (beside, beside, above, above)
    return torch.nn.functional.pad(square.permute(2, 0, 1), sides, value=GRAY[0]).permute(1, 2, 0)


@final
class Throttle:
    """Limits a task between steps to a share of the elapsed time, with what it costs the steps after it.

    A task may leave work to other threads, which compete with the next steps for the cores. The ``AFTER``
    steps after a task are therefore compared with the median of undisturbed ones: what they take longer
    belongs to the task.

    Args:
        share: share of the time, in (0, 1).
        now: current time in seconds.
    """

    def __init__(self, share: float, now: float) -> None:
        self.share = share
        self._undisturbed: deque[float] = deque(maxlen=32)  # seconds of steps
        self._begin, self._cost = now, 0.0  # of the last task, in seconds
        self._left = 0  # steps to come that the last task may have disturbed

    def stepped(self, seconds: float) -> None:
        """Record how long a step took, without the task."""
        if self._left == 0:
            self._undisturbed.append(seconds)
            return
        self._left -= 1
        if self._undisturbed:
            self._cost += max(0.0, seconds - statistics.median(self._undisturbed))

    def is_due(self, now: float) -> bool:
        """Return whether the task may run now: when what the last one cost is known and made up for."""
        return self._left == 0 and now >= self._begin + self._cost / self.share

    def took(self, begin: float, end: float) -> None:
        """Record that the task ran from ``begin`` to ``end``."""
        self._begin, self._cost, self._left = begin, end - begin, AFTER


def camera_view(camera: CameraHandle, size: int, aspect: float) -> Views:
    """Convert a viser camera to one view.

    Args:
        camera: the client's camera; it looks along +z with y down, and its field of view is vertical.
        size: height of the image in pixels.
        aspect: width of the image in heights, at most 3, such as the window's.
    """
    width = max(1, round(size * min(aspect, MOST_ASPECT)))
    focal = 0.5 * size / width / math.tan(0.5 * float(camera.fov))
    w, x, y, z = (float(number) for number in camera.wxyz)
    right_down_forward = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    origin = torch.tensor([[float(number) for number in camera.position]])
    front, left, up = origin.unbind(-1)
    return orbit([0.0], 0.0, 1.0, focal, size, width)._replace(
        origin=origin,
        elevation_deg=torch.rad2deg(torch.atan2(up, torch.hypot(front, left))),
        azimuth_deg=torch.rad2deg(torch.atan2(left, front)) % 360.0,
        rotation=(right_down_forward * torch.tensor([1.0, -1.0, -1.0]))[None],
        light=origin,
    )
