"""Install Debian packages for the tests and the demo, or print how to. Usage: system.py redis-server chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

COMMANDS = {"nodejs": "node", "gettext": "msgfmt", "postgresql": "pg_ctlcluster"}
"""The commands of packages, where the names differ."""


def main(packages: list[str]) -> int:
    missing = [package for package in packages if shutil.which(COMMANDS.get(package, package)) is None]
    if not missing:
        return 0
    names = " ".join(missing)
    if os.geteuid() == 0:
        sudo: list[str] = []
    elif shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        sudo = ["sudo", "-n"]
    else:
        print(f"Missing: {names}. Run this, then try again:\n    sudo apt-get install -y {names}", file=sys.stderr)
        return 1
    if shutil.which("apt-get") is None:
        print(f"Missing: {names}. Install them with this system's package manager.", file=sys.stderr)
        return 1
    print(f"Installing Debian's {names} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run([*sudo, *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
