"""A results folder -> one self-contained page. numpy and Pillow only; needs neither torch nor a GPU."""

from orderhead.report.page import build

__all__ = ["build"]
