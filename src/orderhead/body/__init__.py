"""MAR as published, its tokenizers, and the official checkpoints' key maps; nothing here knows about order."""

from orderhead.body import official
from orderhead.body.mar import MAR, SIZES, MARConfig

__all__ = ["MAR", "SIZES", "MARConfig", "official"]
