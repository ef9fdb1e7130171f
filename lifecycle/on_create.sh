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

# Exit status of a Python that cannot run the lifecycle: too old, or without hpadmin.
unfit=86
program='
import runpy, sys
from importlib.util import find_spec
def fits():
    try:
        return sys.version_info >= (3, 11) and find_spec("hpadmin.request") and find_spec("yaml")
    except ImportError:
        return False
fits() or sys.exit(86)
runpy.run_module("lifecycle", run_name="__main__", alter_sys=True)'

# The checkout or bundle that this folder lies in may hold hpadmin, too.
start() {
    for python in /opt/hpadmin/bin/python3 python3 python3.13 python3.12 python3.11; do
        command -v "$python" >/dev/null || continue
        for path in "$work" "$work:${here%/*}"; do
            status=0
            PYTHONPATH=$path PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 "$python" -c "$program" "$@" || status=$?
            [ "$status" -eq "$unfit" ] || return "$status"
        done
    done
    return "$unfit"
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
    if [ -e "$here/request.json" ] || [ -e "$here/request.yaml" ] || [ -e "$here/provisioning_parameters.json" ]; then
        set -- --bundle "$here" "$@"
    fi
    cd /
    status=0
    start "$@" || status=$?
    if [ "$status" -eq "$unfit" ]; then
        install_python
        status=0
        start "$@" || status=$?
    fi
    if [ "$status" -eq "$unfit" ]; then
        echo "on_create failed: stage python failed: no Python 3.11 or later with hpadmin here, nor could it be installed"
        status=1
    fi
    return "$status"
}

# tee would hide the exit status in a plain pipe.
{ run "$@" 2>&1 && echo 0 >"$work/status" || echo $? >"$work/status"; } | tee -a "$log"
exit "$(cat "$work/status")"
