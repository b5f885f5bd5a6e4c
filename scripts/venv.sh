#!/bin/sh
# Make a virtual environment, unless it is there, and put the pinned pip into it. Usage: venv.sh oldest|newest FOLDER
set -eu
python=$2/bin/python
if ! "$python" -c "import pip" 2>/dev/null; then
	base=${PYTHON:-$(sh "$(dirname "$0")/python.sh" "$1")}
	test -n "$base" || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 1; }
	"$base" -m venv --clear "$2" || { echo "The venv module is needed: apt-get install python3-venv"; exit 1; }
fi
"$python" -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/build.txt
# Python 3.11 puts it there, of an age of its own.
"$python" -m pip --disable-pip-version-check --quiet uninstall --yes setuptools 2>/dev/null
