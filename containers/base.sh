#!/bin/sh
# base.sh SUITE TAG: make sure that the image TAG holds a minimal Debian SUITE (trixie, forky).
# Pulled from the registry where one answers; else made with debootstrap from the mirror that apt here uses.
set -eu

suite=$1
tag=$2

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

docker image inspect "$tag" >/dev/null 2>&1 && exit 0

if timeout 120 docker pull -q "debian:$suite-slim" >/dev/null 2>&1; then
    docker tag "debian:$suite-slim" "$tag"
    exit 0
fi
echo "no registry gives debian:$suite-slim; making $tag with debootstrap (about two minutes)" >&2

command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ] ||
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install -y -qq --no-install-recommends debootstrap >/dev/null

# The first Debian mirror that apt is told of, in deb822 or one-line form.
mirror=$(sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\/debian\)\/*\([[:space:]].*\)*$/\1/p' \
    -e 's/^deb[[:space:]]\(\[[^]]*\][[:space:]]*\)*\([^[:space:]]*\/debian\)\/*[[:space:]].*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
[ -n "$mirror" ] || {
    echo "neither a registry nor a Debian mirror in /etc/apt/sources.list*: cannot make $tag" >&2
    exit 1
}

# A suite newer than this debootstrap is installed as sid is: the scripts are the same.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid

root=$(as_root mktemp -d "${TMPDIR:-/tmp}/hpadmin-base.XXXXXX")
trap 'as_root rm -rf "$root"' EXIT INT TERM
if ! as_root debootstrap --variant=minbase "$suite" "$root" "$mirror" "$script" >"${TMPDIR:-/tmp}/hpadmin-debootstrap.log" 2>&1; then
    tail -n 5 "${TMPDIR:-/tmp}/hpadmin-debootstrap.log" >&2
    echo "debootstrap of $suite from $mirror failed" >&2
    exit 1
fi
as_root rm -rf "$root/var/cache/apt/archives" "$root/var/lib/apt/lists"
as_root mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
as_root tar -C "$root" -c . | docker import - "$tag" >/dev/null
