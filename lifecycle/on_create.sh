#!/bin/sh
# What a new or replaced node runs first (LifeCycleConfig.OnCreate): finds or installs a Python and starts the
# package in this folder, whatever the folder is called. Arguments are passed on: --dry-run, --bundle DIR.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
log=/var/log/provision/provisioning.log
environment=/opt/hpadmin
pythons="python3 python3.13 python3.12 python3.11"
mkdir -p "${log%/*}"

# All output goes through tee, which ends when everybody else has.
work=$(mktemp -d)
trap 'exec >/dev/null 2>&1; wait; rm -rf "$work"' EXIT
ln -s "$here" "$work/lifecycle"
mkfifo "$work/output"
tee -a "$log" <"$work/output" &
ended=$!
exec >"$work/output" 2>&1

# Whoever stops this script means the lifecycle: what was started last, if it is not known to have ended. (A variable
# with its process id would be set a moment after it runs.) What was forked just now loses the signal, and looks.
stop() {
    trap '' HUP INT TERM
    : >"$work/stopped"
    [ "$!" = "$ended" ] || kill "$!" 2>/dev/null || :
    echo "on_create failed: it was stopped by SIG$1"
    exit 1
}
for signal in HUP INT TERM; do
    # shellcheck disable=SC2064
    trap "stop $signal" "$signal"
done

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
    for python in "$environment/bin/python3" $pythons; do
        command -v "$python" >/dev/null || continue
        for path in "$work" "$work:${here%/*}"; do
            (
                [ ! -e "$work/stopped" ] || exit 1
                export PYTHONPATH="$path" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
                exec "$python" -c "$program" "$@"
            ) &
            status=0
            wait "$!" || status=$?
            ended=$!
            [ "$status" -eq "$unfit" ] || return "$status"
        done
    done
    return "$unfit"
}

# Tried again after pauses that hundreds of nodes do not share.
retry() {
    for bound in 4 8 16 32 64; do
        "$@" && return
        sleep "$(($(od -An -N2 -tu2 /dev/urandom) % bound))"
    done
    "$@"
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Wheels that the bundle carries go before the package index, so that a node needs no internet.
install_hpadmin() {
    # Without ensurepip, which Debian keeps in another package, there would be an environment without pip.
    new_enough "$1" && "$1" -c 'import ensurepip, venv' 2>/dev/null || return 1
    rm -rf "$environment/bin" "$environment/lib" "$environment/lib64"
    "$1" -m venv "$environment" || return 1
    if [ -d "$here/wheels" ]; then
        "$environment/bin/pip" install -q --no-index --find-links "$here/wheels" hpadmin
    else
        retry "$environment/bin/pip" install -q --retries 3 hpadmin
    fi
}

# Apt is asked only where no Python that is here will do.
install_python() {
    echo "no Python with hpadmin here: installing both"
    for python in $pythons; do
        install_hpadmin "$python" && return
    done
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 -qq"
    retry $apt update
    for python in $pythons; do
        if command -v "$python" >/dev/null && ! new_enough "$python"; then continue; fi
        apt-cache show "$python-venv" >/dev/null 2>&1 || continue
        retry $apt install -y "$python" "$python-venv" && install_hpadmin "$python" && return
    done
}

# The bundle is where the request is: given, or this very folder.
if [ -e "$here/request.json" ] || [ -e "$here/request.yaml" ] || [ -e "$here/provisioning_parameters.json" ]; then
    set -- --bundle "$here" "$@"
fi
cd /
status=0
start "$@" || status=$?
[ "$status" -eq "$unfit" ] || exit "$status"
case " $* " in
    *" --dry-run "*)
        echo "python: install Python 3.11 or later, where there is none, and hpadmin in $environment; the rest is told then"
        exit 0
        ;;
esac
install_python || :
status=0
start "$@" || status=$?
if [ "$status" -eq "$unfit" ]; then
    echo "on_create failed: stage python failed: no Python 3.11 or later with hpadmin here, nor could it be installed"
    status=1
fi
exit "$status"
