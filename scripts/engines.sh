#!/bin/sh
# Installs what clusters and tests run from the distribution's packages, and Patroni in an environment of its own.
# Says what it does, or names what is missing. Returns at once when everything is there.
set -eu
cd "$(dirname "$0")/.."

missing=""
need() { # need PACKAGE FILE...: the package, unless one of these is there
    package="$1"
    shift
    for file in "$@"; do
        [ -x "$file" ] && return 0
        command -v "$file" >/dev/null 2>&1 && return 0
    done
    missing="$missing $package"
}

need chromium chromium
need strace strace
need openssl openssl
need postgresql /usr/lib/postgresql/*/bin/postgres
need pgbouncer pgbouncer /usr/sbin/pgbouncer
need redis-server redis-server
need rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
need nginx-light nginx /usr/sbin/nginx
need etcd-server etcd
# Patroni runs as an unprivileged user, who may not be able to enter the home in which another Python lives.
/usr/bin/python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
fi
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "engines: please install:$missing" >&2
        exit 1
    fi
    if [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; then
        echo "engines: as root, run: apt-get install$missing" >&2
        exit 1
    fi
    echo "engines: installing$missing"
    # Clusters start their own servers on their own ports: packages must not start theirs.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee /usr/sbin/policy-rc.d >/dev/null
        $as_root chmod +x /usr/sbin/policy-rc.d
        trap '$as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        $as_root mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    $as_root apt-get update -q >/dev/null
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o Dpkg::Options::=--force-confold $missing >/dev/null
fi

# Root's Patroni is run by another user: it lies where everybody can reach it.
patroni="${FIELDPOST_CLUSTER_PATRONI:-}"
if [ -z "$patroni" ]; then
    [ "$(id -u)" -eq 0 ] && patroni=/opt/fieldpost/patroni || patroni="$HOME/.local/share/fieldpost/patroni"
fi
lock=scripts/patroni.lock
if ! cmp -s "$lock" "$patroni/installed.lock"; then
    echo "engines: installing Patroni into $patroni"
    /usr/bin/python3 -m venv --clear "$patroni"
    "$patroni/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    cp "$lock" "$patroni/installed.lock"
fi
