#!/bin/sh
# Make sure that a Docker engine answers: install Debian's where there is none, start it where it is not running, let
# a user with sudo in. Says what it does; exits non-zero with the reason when it cannot.
set -eu

log=${TMPDIR:-/tmp}/hpadmin-dockerd.log

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

answers() {
    docker info >/dev/null 2>&1
}

# Installing is retried: another apt may hold the lock, or the network may blink.
install_packages() {
    for attempt in 1 2 3; do
        if as_root apt-get -o DPkg::Lock::Timeout=300 update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
                install -y -qq --no-install-recommends "$@" >/dev/null; then
            return 0
        fi
        echo "installing $1 failed (attempt $attempt of 3)" >&2
    done
    return 1
}

install_engine() {
    echo "Docker's engine is not installed; installing docker.io" >&2
    client='' # a package of its own since trixie
    apt-cache show docker-cli >/dev/null 2>&1 && client=docker-cli
    install_packages docker.io $client iptables ca-certificates
}

# Membership of the group docker would count from the next login only, and stay for good.
let_me_in() {
    echo "letting $(id -un) use Docker until its engine starts anew" >&2
    command -v setfacl >/dev/null || install_packages acl || return 1
    as_root setfacl -m "u:$(id -u):rw" /var/run/docker.sock
}

answers && exit 0
command -v dockerd >/dev/null || [ -x /usr/sbin/dockerd ] || install_engine || {
    echo "Docker's engine cannot be installed here: install docker.io or docker-ce, then try again" >&2
    exit 1
}
answers && exit 0

if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
else
    as_root sh -c "setsid nohup dockerd >>'$log' 2>&1 </dev/null &"
fi

waited=0
until answers; do
    if [ "$(id -u)" != 0 ] && as_root docker info >/dev/null 2>&1; then
        if let_me_in && answers; then break; fi
        echo "Docker runs, but $(id -un) may not use it: sudo usermod -aG docker $(id -un), then log in again" >&2
        exit 1
    fi
    if [ "$waited" -ge 120 ]; then
        echo "Docker's engine did not start within 120 s; its log: $log" >&2
        exit 1
    fi
    sleep 1
    waited=$((waited + 1))
done
