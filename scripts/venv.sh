#!/bin/sh
# Make a virtual environment with the pinned pip in it. Usage: venv.sh oldest|newest FOLDER
set -eu
python=${PYTHON:-$(sh "$(dirname "$0")/python.sh" "$1")}
test -n "$python" || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 1; }
"$python" -m venv "$2" || { echo "The venv module is needed: apt-get install python3-venv"; exit 1; }
"$2/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/build.txt
# Python 3.11 puts it there, of an age of its own.
"$2/bin/python" -m pip --disable-pip-version-check --quiet uninstall --yes setuptools 2>/dev/null
