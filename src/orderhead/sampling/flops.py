"""What a sample costs in floating-point operations, by formula: this sampler's, and the published code's.

Products of matrices and attention are counted, two operations a multiplication, as `torch.utils.flop_counter` does;
what is added, normalized or activated is not. With the dpm solver, which may take fewer denoising steps than it is
given, it is about an upper bound.

Legend: S buffer tokens, L cells, W width, T unmasking steps, K cells of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

from orderhead.body.diffloss import TimestepEmbedder
from orderhead.body.diffusion import respaced
from orderhead.body.mar import MARConfig
from orderhead.sampling.allocation import by_rank
from orderhead.sampling.schedule import denoise_counts
from orderhead.sampling.settings import Settings


def sampled(config: MARConfig, settings: Settings, images: int = 1) -> int:
    """Of `images` whole images in one batch, without what the policy costs, its pilot under equalized guidance too.

    Their labels are those of the classes in turn: rows of the first step are computed once a label, in a part of a
    batch that a thread has for itself (`sampling.threads`) once more.

    ValueError as for the settings' counts.
    """
    counts, guided, width = settings.counts(config.grid.L), settings.cfg_scale != 1, config.diffloss_width
    denoise_TK, total = _denoise_steps(settings, counts), 0
    for step, (seen, count, denoise_K) in enumerate(zip(_seen(config, counts), counts, denoise_TK, strict=True)):
        halves = 1 + (guided and step % settings.null_every == 0)
        everywhere = halves == 2 and settings.null_every > 1 and step + 1 < len(counts)
        asked = None if everywhere else count  # the distance of no label from the labels is kept of all cells
        rows = images * halves
        if step == 0 and (kinds := min(images, config.classes) + halves - 1) < rows:
            rows, asked = kinds, None
        if settings.full_every == 1:
            z = rows * (_encoder(config, seen, seen - config.buffer_size) + _decoder(config, asked))
        else:
            ago = (1, settings.null_every)[:halves]
            missed = [_missed(config, settings.full_every, counts, step, steps) for steps in ago]
            z = rows * _kept_encoder(config, missed[-1], seen)
            z += rows * sum(_kept_decoder(config, n, asked) for n in missed) // len(missed)
        row = sum(denoise_K) * _modulated(config) + count * config.decoder_width * width
        total += z + images * ((1 + guided) * row + sum(denoise_K) * config.channels * width)
    timesteps = len({int(t) for n in set(chain(*denoise_TK)) for t in respaced(n)})
    return 2 * (total + timesteps * _time(width))


def published(config: MARConfig, settings: Settings, images: int = 1) -> int:
    """The same by LTH14/mar's code: every layer runs for every row, and every embedding at every denoising step."""
    assert settings.denoise_by == "even", "the published code knows no other"
    counts, total, width = settings.counts(config.grid.L), 0, config.diffloss_width
    row = _time(width) + (config.decoder_width + config.channels) * width + _modulated(config)
    for seen, denoise_K in zip(_seen(config, counts), _denoise_steps(settings, counts), strict=True):
        total += _encoder(config, seen, config.grid.L) + _decoder(config, None) + sum(denoise_K) * row
    return 2 * images * (1 + (settings.cfg_scale != 1)) * total


def _denoise_steps(settings: Settings, counts: Sequence[int]) -> list[tuple[int, ...]]:
    """Of each cell of each unmasking step."""
    denoise_T = denoise_counts(settings.denoise_steps, len(counts))
    even = settings.denoise_by == "even"
    return [(n,) * count if even else by_rank(n, count) for n, count in zip(denoise_T, counts, strict=True)]


def _seen(config: MARConfig, counts: Sequence[int]) -> list[int]:
    """The encoder's tokens at each step."""
    return [config.buffer_size + known for known in accumulate(counts, initial=0)][:-1]


def _encoder(config: MARConfig, seen: int, projected: int) -> int:
    width = config.encoder_width
    blocks = config.encoder_depth * _block(seen, seen, width, config.mlp_ratio)
    return projected * config.channels * width + blocks + seen * width * config.decoder_width


def _decoder(config: MARConfig, asked: int | None) -> int:
    """With the last block for `asked` cells alone, or (None) for all tokens."""
    T, width, ratio = config.buffer_size + config.grid.L, config.decoder_width, config.mlp_ratio
    last = _block(T, T if asked is None else asked, width, ratio)
    return (config.decoder_depth - 1) * _block(T, T, width, ratio) + last


def _missed(config: MARConfig, full_every: int, counts: Sequence[int], step: int, steps: int) -> int | None:
    """Tokens that rows compute which were last asked so many steps ago; None where a full pass is due (`body.kept`)."""
    if any(k % full_every == 0 for k in range(max(0, step - steps + 1), step + 1)):
        return None
    return config.buffer_size + sum(counts[step - steps : step])


def _kept_encoder(config: MARConfig, missed: int | None, seen: int) -> int:
    T, tokens = config.buffer_size + config.grid.L, seen if missed is None else missed
    width, depth = config.encoder_width, config.encoder_depth
    blocks = depth * _block(tokens, tokens, width, config.mlp_ratio, T)
    return config.grid.L * config.channels * width + blocks + tokens * width * config.decoder_width


def _kept_decoder(config: MARConfig, missed: int | None, asked: int | None) -> int:
    T, L = config.buffer_size + config.grid.L, config.grid.L
    tokens = T if missed is None or asked is None else missed + asked
    width, depth, ratio = config.decoder_width, config.decoder_depth, config.mlp_ratio
    last = _block(tokens, L if asked is None else asked, width, ratio, T)
    return (depth - 1) * _block(tokens, tokens, width, ratio, T) + last


def _block(keys: int, queries: int, width: int, mlp_ratio: float, others: int | None = None) -> int:
    """A transformer block: keys and values of some tokens, everything else of others.

    They attend to those keys, or to so many `others` where keys are kept.
    """
    own = queries * width * width * (2 + 2 * mlp_ratio)
    return round(2 * keys * width * width + own) + 2 * queries * (others or keys) * width


def _modulated(config: MARConfig) -> int:
    """A row of the denoising network, but for its embeddings and its input."""
    width = config.diffloss_width
    return (config.diffloss_depth * 5 + 2) * width * width + width * 2 * config.channels


def _time(width: int) -> int:
    return (TimestepEmbedder.frequencies + width) * width
