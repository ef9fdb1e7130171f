#!/bin/sh
# What a new or replaced node runs first (LifeCycleConfig.OnCreate): finds or installs a Python and starts the
# package in this folder, whatever the folder is called. Arguments are passed on: --dry-run, --bundle DIR.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
log=/var/log/provision/provisioning.log
mkdir -p "${log%/*}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$here" "$work/lifecycle"

usable() {
    PYTHONPATH=$2 "$1" -c '
import sys
from importlib.util import find_spec
assert sys.version_info >= (3, 11) and find_spec("hpadmin.request") and find_spec("yaml")' 2>/dev/null
}

# The checkout or bundle that this folder lies in may hold hpadmin, too.
find_python() {
    for python in /opt/hpadmin/bin/python3 python3 python3.13 python3.12 python3.11; do
        for path in "$work" "$work:${here%/*}"; do
            usable "$python" "$path" && return 0
        done
    done
    return 1
}

# Wheels that the bundle carries go before the package index, so that a node needs no internet.
install_python() {
    echo "no Python with hpadmin here: installing both"
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 -qq"
    $apt update && { $apt install -y python3 python3-venv || $apt install -y python3.11 python3.11-venv; }
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null || continue
        "$python" -m venv /opt/hpadmin
        if [ -d "$here/wheels" ]; then
            /opt/hpadmin/bin/pip install -q --no-index --find-links "$here/wheels" hpadmin
        else
            /opt/hpadmin/bin/pip install -q --retries 10 hpadmin
        fi
        return
    done
}

# The bundle is where the request is: given, or this very folder.
run() {
    find_python || { install_python; find_python; } || {
        echo "on_create failed: stage python failed: no Python 3.11 or later with hpadmin here, nor could it be installed"
        return 1
    }
    if [ -e "$here/request.json" ] || [ -e "$here/request.yaml" ] || [ -e "$here/provisioning_parameters.json" ]; then
        set -- --bundle "$here" "$@"
    fi
    cd / && PYTHONPATH=$path PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 "$python" -m lifecycle "$@"
}

# tee would hide the exit status in a plain pipe.
{ run "$@" 2>&1 && echo 0 >"$work/status" || echo $? >"$work/status"; } | tee -a "$log"
exit "$(cat "$work/status")"
