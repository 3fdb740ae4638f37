"""Schedule, guidance, solvers, the loop, the trace, and the stream of images."""

from orderhead.sampling.sample import Samples, sample

__all__ = ["Samples", "sample"]
