"""What `make proof` runs, and the ordinary tests only in part: TORCHMIN_NB_PROOF is set there."""

import os
from collections import Counter

__all__ = ["PROOF", "covering", "some"]

PROOF = bool(os.environ.get("TORCHMIN_NB_PROOF"))


def covering(combinations):
    """The positions of some combinations in which each value of each parameter occurs.

    combinations: of each, the values by the names of the parameters. Chosen first: one with most values that are new;
    of several, the one whose values have been chosen least, so that the values of a short parameter take turns.
    """
    sets = [set(combination.items()) for combination in combinations]
    left, chosen, used = set().union(*sets), set(), Counter()
    while left:
        best = max(
            range(len(sets)), key=lambda index: (len(left & sets[index]), -sum(used[value] for value in sets[index]))
        )
        left -= sets[best]
        used.update(sets[best])
        chosen.add(best)
    return chosen


def some(cases, *features):
    """Of a long series of cases, some in which each value of each feature occurs; all of them in `make proof`.

    features: functions of a case, as its method, or its kind of error.
    """
    if PROOF:
        return list(cases)
    chosen = covering([{number: feature(case) for number, feature in enumerate(features)} for case in cases])
    return [case for index, case in enumerate(cases) if index in chosen]
