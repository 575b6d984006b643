#!/bin/sh
# Find a Python that reviewkd_mm supports and let it make .venv, or with the argument `lowest` or
# `highest` the virtual environment of that name. PYTHON=... chooses one.
set -eu

here=$(dirname "$0")

# A name on PATH is not enough: a version manager leaves names whose Python is not active, and
# Debian's python3 lacks ensurepip until python3-venv is there. So each is run.
suitable() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
        >/dev/null 2>&1
}

case "${1:-}" in
    lowest) candidates='python3.10 python3.11 python3.12 python3' ;;
    highest) candidates='python3.12 python3' ;; # Several of its packages need 3.12.
    *) candidates='python3.11 python3.12 python3.10 python3' ;;
esac

if [ -n "${PYTHON:-}" ]; then
    suitable "$PYTHON" && exec "$PYTHON" "$here/setup_venv.py" "$@"
    echo "set-up: PYTHON=$PYTHON is not a Python 3.10, 3.11 or 3.12 with venv and ensurepip" >&2
    exit 1
fi
for candidate in $candidates; do
    suitable "$candidate" && exec "$candidate" "$here/setup_venv.py" "$@"
done
echo 'set-up: no Python 3.10, 3.11 or 3.12 with venv and ensurepip was found;' \
    'install one (Debian, Ubuntu: python3-venv) or name it: make PYTHON=/path/to/python' >&2
exit 1
