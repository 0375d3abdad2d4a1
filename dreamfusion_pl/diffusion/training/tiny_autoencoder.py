"""A small autoencoder that starts as a thumbnail of its picture."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import nn


def build_autoencoder(
    width: int, encoder_blocks: tuple[int, ...], decoder_blocks: tuple[int, ...], latent_channels: int
) -> AutoencoderTiny:
    """Return an ``AutoencoderTiny`` that starts as a thumbnail.

    Args:
        width: channels of all levels, 3 or more.
        encoder_blocks: residual blocks of each level, finest first.
        decoder_blocks: residual blocks of each level, coarsest first.
        latent_channels: channels of the latents, 3 or more.

    Raises:
        ValueError: the numbers of levels differ, or there are too few channels.
    """
    if len(encoder_blocks) != len(decoder_blocks) or min(width, latent_channels) < 3 or not encoder_blocks:
        raise ValueError(
            "encoder and decoder need as many levels, and width and latent_channels are 3 or more, "
            f"got {encoder_blocks}, {decoder_blocks}, {width} and {latent_channels}"
        )
    levels = (width,) * len(encoder_blocks)
    network = AutoencoderTiny(
        encoder_block_out_channels=levels,
        decoder_block_out_channels=levels,
        num_encoder_blocks=tuple(encoder_blocks),
        num_decoder_blocks=tuple(decoder_blocks),
        latent_channels=latent_channels,
    )
    start_as_thumbnail(network)
    return network


@torch.no_grad()
def start_as_thumbnail(network: AutoencoderTiny, contrast: float = 3.0) -> None:
    """Set weights so that three latents are the picture's colours, averaged over a latent's pixels.

    From random weights, a network of this size takes hundreds of steps to find the colours of plain pictures.
    The weights of the other latents stay random, enlarged so that they are heard above the noise.

    Args:
        network: changed in place.
        contrast: a latent's change for a change of its pixels from black to white.
    """
    for net in (network.encoder, network.decoder):
        convolutions = [layer for layer in net.layers if isinstance(layer, nn.Conv2d)]
        for layer in net.layers:
            if isinstance(layer, AutoencoderTinyBlock):  # its sum is the unchanged input in these channels
                layer.conv[-1].weight[:3] = 0.0
                layer.conv[-1].bias[:3] = 0.0
        for convolution in convolutions:
            scale, shift = 1.0, 0.0
            if net is network.encoder and convolution is convolutions[-1]:
                scale, shift = contrast, -0.5 * contrast
                convolution.weight[3:] *= 8.0
            elif net is network.decoder and convolution is convolutions[0]:
                scale, shift = 1.0 / contrast, 0.5
            _pass_on(convolution, scale, shift)


def _pass_on(convolution: nn.Conv2d, scale: float, shift: float) -> None:
    """Let the first three channels through: the middle pixel, or the mean of 2 x 2 at half the side."""
    convolution.weight[:3] = 0.0
    for channel in range(3):
        if convolution.stride == (2, 2):  # with padding 1, the last 2 x 2 weights lie on the block
            convolution.weight[channel, channel, 1:, 1:] = scale / 4.0
        else:
            convolution.weight[channel, channel, 1, 1] = scale
        if convolution.bias is not None:
            convolution.bias[channel] = shift
