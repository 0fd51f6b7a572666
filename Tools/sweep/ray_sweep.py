"""An experiment as Ray tasks, a point a task, and its table in the end.

    python3 Tools/sweep/ray_sweep.py SPEC OUT

Needs the Python package ray, on a cluster RAY_ADDRESS besides; SPEC and OUT lie where all nodes see them, and `atoll` is on the path
there. A task that is run twice finds its point computed.
"""

import os
import subprocess
import sys

import ray


def main(spec, out):
    listed = subprocess.run(
        ["atoll", "sweep", spec, "--out", out, "--list"], check=True, stdout=subprocess.PIPE, text=True
    )
    here = os.getcwd()
    ray.init(log_to_driver=False)

    @ray.remote(num_cpus=1, max_retries=3)
    def point(command):
        return subprocess.run(command, shell=True, cwd=here).returncode

    codes = ray.get([point.remote(command) for command in listed.stdout.splitlines()])
    ray.shutdown()
    failed = sum(code != 0 for code in codes)
    if failed:
        print(f"{failed} of {len(codes)} points failed", file=sys.stderr)
        return 1
    return subprocess.run(["atoll", "sweep", "merge", out, "--out", out]).returncode


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SPEC OUT")
    sys.exit(main(*sys.argv[1:]))
