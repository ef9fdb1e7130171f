#!/bin/sh
# python.sh DIR: make a virtual environment in DIR with a Python that hpadmin runs on.
set -eu

dir=$1

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

python=''
for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || {
    echo "hpadmin needs Python 3.11 or newer" >&2
    exit 1
}

# Debian keeps what `python -m venv` needs in a package of its own.
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get -o DPkg::Lock::Timeout=300 update -qq &&
         apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends python3-venv >/dev/null"

[ -x "$dir/bin/python" ] && "$dir/bin/python" -c 'import pip' 2>/dev/null || "$python" -m venv --clear "$dir"
