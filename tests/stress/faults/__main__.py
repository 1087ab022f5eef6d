"""Faults put into real runs: nothing is lost, and no damaged file is trusted.

    make faults ARGS="[kills] [disk] [damage] [ranks] [--kills 200] [--real 30] [--damages 500] [--ranks 100]"

Kills runs of the command line at random moments and resumes them; lets each operation on files fail, and disks be full,
read-only or forbidden; damages checkpoints; kills and stops ranks of runs of several processes, and cuts the link
between two of them. Exits 1 at the first violation, with all the facts, and keeps the folder.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARTS = ("kills", "disk", "damage", "ranks")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; by default all")
    parser.add_argument("--kills", type=int, default=200, help="kills in all")
    parser.add_argument("--real", type=int, default=30, help="of these, kills of processes that load everything anew")
    parser.add_argument("--damages", type=int, default=500, help="checkpoints to damage")
    parser.add_argument("--ranks", type=int, default=100, help="faults of ranks and links")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here, but for the clock")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(unknown)}")
    # For workers and for processes of their own.
    from paths import PYTHONPATH

    os.environ["PYTHONPATH"] = PYTHONPATH

    import torch

    from faults import damage, disk, kills, ranks  # they load all of mappo, once for all that is forked
    from mappo.system.stdio import warn_in_one_line

    warn_in_one_line()
    torch.set_num_threads(1)
    folder, started = Path(tempfile.mkdtemp(prefix="faults-")), time.monotonic()
    try:
        for part in arguments.parts or PARTS:
            print(f"{part}:", flush=True)
            place, start = folder / part, time.monotonic()
            place.mkdir()
            if part == "kills":
                told = kills.run(place, arguments.kills, arguments.real, arguments.seed)
            elif part == "disk":
                told = disk.run(place)
            elif part == "ranks":
                told = ranks.run(place, arguments.ranks, arguments.seed)
            else:
                told = damage.run(place, arguments.damages, arguments.seed)
            print(f"  {told}; {time.monotonic() - start:.0f} s", flush=True)
    except kills.Violation as violation:
        print(f"VIOLATED, seed {arguments.seed}, in {folder}: {violation}")
        return 1
    shutil.rmtree(folder)
    print(f"no violation in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
