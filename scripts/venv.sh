#!/bin/sh
# Create a virtual environment unless it exists, and install the pinned pip. Usage: venv.sh oldest|newest FOLDER
set -eu
python=$2/bin/python
if ! "$python" -c "import pip" 2>/dev/null; then
	base=${PYTHON:-$(sh "$(dirname "$0")/python.sh" "$1")}
	test -n "$base" || { echo "Python 3.11 or newer is required: apt-get install python3 python3-venv"; exit 1; }
	"$base" -m venv --clear "$2" || { echo "The venv module is required: apt-get install python3-venv"; exit 1; }
fi
"$python" -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/build.txt
# Python 3.11 installs an old version of it.
"$python" -m pip --disable-pip-version-check --quiet uninstall --yes setuptools 2>/dev/null
