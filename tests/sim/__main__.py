"""Replay one seed, or try many: `python -m tests.sim [ordeal] SEED [SEED_END]`."""

import sys
from collections.abc import Callable

from tests.sim.test_fleet import simulate
from tests.sim.test_ordeal import undergo

if __name__ == "__main__":
    arguments = sys.argv[1:]
    run: Callable[[int], object] = simulate
    if arguments[0] == "ordeal":
        run, arguments = undergo, arguments[1:]
    first = int(arguments[0])
    last = int(arguments[1]) if len(arguments) > 1 else first + 1
    for number in range(first, last):
        run(number)
    sys.stdout.write(f"{last - first} seeds, no invariant broken\n")
