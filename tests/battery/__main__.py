"""The battery's command; see the package."""

import argparse
import sys

from ._parts import PARTS, Tally, missing, module_of, run, seeded, trial_of


def main():
    parser = argparse.ArgumentParser(prog="python -m battery", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}: all if left out")
    parser.add_argument("--share", type=float, default=1.0, help="how much of what there is to try")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--trial", type=int, help="only this one, to look at a failure")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    parts = options.parts or PARTS
    if options.trial is not None:
        for part in parts:
            tally = Tally()
            trial_of(part, options.seed, options.trial, tally)
            print(f"{part}: {tally.tried} tried", *tally.failures, sep="\n")
        return 0
    wrong = 0
    for part in parts:
        if why := missing(part):
            print(f"{part:14}cannot run here: {why}")
            continue
        module = module_of(part)
        tally, seconds = run(part, options.share, options.seed)
        missed = [fault for fault in module.FAULTS if not seeded(part, fault, options.seed)]
        wrong += len(tally.failures) + len(missed)
        noticed = f"{len(module.FAULTS) - len(missed)} of {len(module.FAULTS)} seeded faults noticed"
        done = f"{part:14}{tally.tried:>9,} {module.UNIT}: {len(tally.failures)} failed"
        print(f"{done}; {noticed}; {seconds:.0f} s")
        for name, value in sorted(tally.largest.items()):
            print(f"{part}: at most {value:.2f} of what is allowed: {name}")
        for fault in missed:
            print(f"{part}: does not notice a fault: {fault}")
        sys.stdout.flush()
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
