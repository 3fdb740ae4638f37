"""Where to reveal next: the decode state, policies, spatial orders and their linter."""

from orderhead.orders.policy import POLICIES, Policy, Spatial
from orderhead.orders.state import DecodeState, top_masked

__all__ = ["POLICIES", "DecodeState", "Policy", "Spatial", "top_masked"]
