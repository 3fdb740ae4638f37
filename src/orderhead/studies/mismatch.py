"""Section 8, the body mismatch: the gaps of raster and a learned order to random taken apart (`diagnose`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orderhead.core.names import lookup
from orderhead.orders.learned import LEARNED
from orderhead.studies.ablations import HEAD
from orderhead.studies.compare import BASELINE
from orderhead.studies.diagnose import Diagnosis, execute
from orderhead.studies.plan import Plan
from orderhead.studies.real import check_real
from orderhead.studies.rounds import baseline, trained

ORDERS = ("raster", "learned_fast")
MOST = 5000  # images an arm, at any scale


def mismatch(plan: Plan) -> Path:
    """Both orders, or those named by `only`; the head of section 4 is trained unless it is there.

    ValueError as for `diagnose`, and for an unknown order.
    """
    for name in plan.only:
        lookup("order", name, dict.fromkeys(ORDERS))
    run, chosen = baseline(plan, "diagnose", {}), plan.only or ORDERS
    run = replace(run, images=min(run.images, MOST))
    check_real(run.world, 2 * run.images)  # before anything is trained
    head = str(trained(plan, HEAD)) if "learned_fast" in chosen else None
    orders = {name: replace(run.settings, order=name, head=head if name in LEARNED else None) for name in chosen}
    random = replace(run.settings, order=BASELINE)
    return execute(Diagnosis(run.out, run.body_name, run.body, orders, random, run.images, run.world))
