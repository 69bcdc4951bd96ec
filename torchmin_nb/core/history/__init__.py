"""The records of a run, the History that keeps them, and the callbacks that receive them."""
