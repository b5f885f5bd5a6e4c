#!/bin/sh
# Print the oldest or the newest supported Python that runs here. Usage: python.sh oldest|newest
# pyenv puts shims for every version on the PATH, but they only run the selected ones. pyenv whence finds the others.

names="python3.11 python3.12 python3.13 python3.14 python3"
test "$1" = newest && names="python3.14 python3.13 python3.12 python3.11 python3"

for name in $names; do
	for candidate in $(command -v "$name") $(pyenv whence --path "$name" 2>/dev/null); do
		if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
			echo "$candidate"
			exit
		fi
	done
done
