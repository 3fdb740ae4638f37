"""README's Python runs as printed."""

import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_python_of_the_readme_runs_and_does_what_it_says() -> None:
    """All blocks one after the other, as a reader would type them."""
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, README.name, "exec"), names)
    samples, filled, mask_BL = names["samples"], names["filled"], names["mask_BL"]
    assert samples.trace.labels_B.tolist() == [5, 3, 8]
    assert samples.images_BCHW.shape == filled.images_BCHW.shape == (3, 1, 32, 32)
    assert samples.trace.step_BL[0, samples.trace.order_BL[0, 0]] == 0
    assert ((filled.trace.step_BL == -1) == ~mask_BL.numpy()).all()
    assert (filled.trace.order_BL[:, :32] == torch.arange(32).numpy()).all()
    assert torch.equal(filled.tokens_BLC[~mask_BL], names["tokens_BLC"][~mask_BL])
