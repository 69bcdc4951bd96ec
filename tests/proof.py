"""What `make proof` runs, and the ordinary tests only in part: TORCHMIN_NB_PROOF is set there."""

import os

__all__ = ["PROOF", "covering"]

PROOF = bool(os.environ.get("TORCHMIN_NB_PROOF"))


def covering(combinations):
    """The positions of some combinations in which each value of each parameter occurs.

    combinations: of each, the values by the names of the parameters. Chosen first: one with most values that are new.
    """
    sets = [{(name, id(value)) for name, value in combination.items()} for combination in combinations]
    left, chosen = set().union(*sets), set()
    while left:
        best = max(range(len(sets)), key=lambda index: len(left & sets[index]))
        left -= sets[best]
        chosen.add(best)
    return chosen
