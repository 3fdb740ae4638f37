"""A body and a tokenizer of a few kilobytes, untrained, as the folders that the command reads."""

import dataclasses
import sys
from pathlib import Path

import torch

from orderhead.body import MAR, SIZES
from orderhead.body.tokenizer import KLTokenizer, TokenizerConfig
from orderhead.data import fashion
from orderhead.data.fashion import CLASS_NAMES

NAMES = ("t-shirt", "trouser", "ankle boot")


def tiny_body(folder: Path) -> Path:
    """Write 4 x 4 cells of 4 channels, 3 named classes, and the tokenizer beside it; returns the body's folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = KLTokenizer(TokenizerConfig(
            image_channels=1, image_size=8, channels=4, widths=(8, 8), layers=1, norm_groups=4,
            encoder_attention=False, mid_attention=False, latent_scale=1.0,
        ))  # fmt: skip
        body = MAR(dataclasses.replace(
            SIZES["tiny"], grid_h=4, grid_w=4, classes=3, class_names=NAMES, token_bound=4.0, buffer_size=2,
            tokenizer=str(folder / "tokenizer"), encoder_width=64, encoder_depth=1, encoder_heads=1,
            decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32, diffloss_depth=1,
        ))  # fmt: skip
        for parameter in body.diffloss.parameters():  # its last layer starts at zero: without this all images are equal
            torch.nn.init.normal_(parameter, std=0.05)
    tokenizer.save_pretrained(folder / "tokenizer", config=dataclasses.asdict(tokenizer.config))
    body.save_pretrained(folder / "body", config=dataclasses.asdict(body.config))
    return folder / "body"


def fashion_body(folder: Path) -> Path:
    """Write a small untrained body for the tokens that the shipped tokenizer, classifier and judge know."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = MAR(dataclasses.replace(
            SIZES["tiny"], class_names=CLASS_NAMES, token_bound=4.0, buffer_size=2, encoder_width=64, encoder_depth=1,
            encoder_heads=1, decoder_width=64, decoder_depth=1, decoder_heads=1, diffloss_width=32, diffloss_depth=1,
        ))  # fmt: skip
        for parameter in body.diffloss.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    body.save_pretrained(folder / "body", config=dataclasses.asdict(body.config))
    return folder / "body"


def one_line(captured: str) -> str:
    """What the command said on stderr: exactly one line, and no traceback."""
    lines = captured.splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("orderhead: "), captured
    assert "Traceback" not in captured
    return lines[0]


COMMAND = (sys.executable, "-m", "orderhead")


def few_real_images() -> None:
    """Let `compare` measure against 300 real images: its tests are about the command, not about the numbers."""
    images, labels = fashion.test_set()
    fashion.test_set = lambda: (images[:300], labels[:300])
