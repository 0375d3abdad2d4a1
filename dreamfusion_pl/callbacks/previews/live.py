"""Live view of the object in a browser during training (viser; extra ``[viewer]``)."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.types import Views

if TYPE_CHECKING:
    from viser import CameraHandle, ViserServer

LOOPBACK = "127.0.0.1"  # not reachable from the network


@final
class LiveView(Callback):
    """Serves a page on this machine that shows the current scene from the viewer's camera.

    Off by default. To switch it on, add it to the callbacks:
    ``--trainer.callbacks+=dreamfusion_pl.callbacks.previews.live.LiveView``. Nothing is rendered while no
    browser is connected.

    Args:
        port: port of the page; if it is in use, the next free one is taken.
        size: height of the images in pixels.
        share: fraction of the training time that may be spent on rendering them, in (0, 1).

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
        self._reported: set[int] = set()  # clients whose rendering failed

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
        self._throttle = Throttle(self.share, time.monotonic())
        print(f"live view: http://{LOOPBACK}:{self._server.get_port()}", flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Render for every connected client, if the time share allows it.

        An error never ends training. A client whose rendering fails is skipped, and reported once.
        """
        if self._server is None or not self._throttle.is_due(time.monotonic()):
            return
        begin = time.monotonic()
        try:
            for number, client in self._server.get_clients().items():
                self._try_to_show(pl_module, number, client)
        except Exception as error:
            print(f"dreamfusion_pl: warning: the live view ends: {error}", file=sys.stderr, flush=True)
            self._close()
        self._throttle.took(begin, time.monotonic())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the server."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the server."""
        self._close()

    def _try_to_show(self, module: LightningModule, number: int, client: Any) -> None:
        try:
            _show(module, client, self.size)
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
def _show(module: LightningModule, client: Any, size: int) -> None:
    views = Views(*(part.to(module.device) for part in camera_view(client.camera, size)))
    picture = module(views, needs_normals=False).rgb[0]
    pixels = (picture.clamp(0.0, 1.0) * 255.0).byte().cpu().numpy()
    client.scene.set_background_image(pixels, format="jpeg")


@final
class Throttle:
    """Limits a repeated task to a share of the elapsed time.

    Args:
        share: share of the time, in (0, 1).
        now: current time in seconds.
    """

    def __init__(self, share: float, now: float) -> None:
        self.share, self._next = share, now

    def is_due(self, now: float) -> bool:
        """Return whether the task may run now."""
        return now >= self._next

    def took(self, begin: float, end: float) -> None:
        """Record that the task ran from ``begin`` to ``end``; the next run is delayed accordingly."""
        self._next = begin + (end - begin) / self.share


def camera_view(camera: CameraHandle, size: int) -> Views:
    """Convert a viser camera to one view.

    Args:
        camera: the client's camera; it looks along +z with y down, and its field of view is vertical.
        size: height of the image in pixels; the width follows the window's aspect ratio, up to 3.
    """
    width = max(1, round(size * min(float(camera.aspect), 3.0)))
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
    return orbit([0.0], 0.0, 1.0, focal, size, width)._replace(
        origin=origin,
        rotation=(right_down_forward * torch.tensor([1.0, -1.0, -1.0]))[None],
        light=origin,
    )
