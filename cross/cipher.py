#!/usr/bin/env python3
"""Fails unless cargo compiles the cipher at opt-level 3 in a profile: cipher.py PROFILE TARGET.

At `opt-level = "z"` the cipher takes twice the time, and it limits the throughput of a small router.
"""

import json
import os
import subprocess
import sys

FAST = {"aes", "cipher", "ctr", "inout", "keystream"}

profile, target = sys.argv[1:]
command = ["/usr/bin/cargo", "build", "--locked", "--no-default-features", "--bin", "mtbox"]
command += ["--profile", profile, "--target", target, "--unit-graph", "-Zunstable-options"]
environment = dict(os.environ, RUSTC_BOOTSTRAP="1", RUSTC="/usr/bin/rustc")
graph = json.loads(subprocess.check_output(command, env=environment))
levels = {
    unit["target"]["name"]: unit["profile"]["opt_level"]
    for unit in graph["units"]
    if unit["platform"] == target and unit["target"]["kind"] == ["lib"]
}
slow = [f"{name} at {levels.get(name)}" for name in sorted(FAST) if levels.get(name) != "3"]
if slow:
    sys.exit(f"cross/cipher.py: not compiled for speed: {', '.join(slow)}")
