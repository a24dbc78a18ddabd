"""Replay one seed, or try many: `python -m tests.sim SEED [SEED_END]`."""

import sys

from tests.sim.test_fleet import simulate

if __name__ == "__main__":
    first = int(sys.argv[1])
    last = int(sys.argv[2]) if len(sys.argv) > 2 else first + 1
    for number in range(first, last):
        simulate(number)
    sys.stdout.write(f"{last - first} seeds, no invariant broken\n")
