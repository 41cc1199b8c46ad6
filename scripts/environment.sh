#!/bin/sh
# Makes .venv hold what the lock files pin: `environment.sh run`, or `environment.sh dev` for tests and linters too.
# `environment.sh bench` makes .venv-bench, which holds the peers of `make bench` and not Fieldpost.
# Returns at once when it does already. Known by content, not by time: a checkout or a copy may set any time.
# What cannot be mended is made anew: a half-made .venv, one that was moved, one whose Python is gone.
set -eu
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
venv=.venv
locks="requirements.lock"
[ "$1" = dev ] && locks="requirements.lock requirements-dev.lock"
# What Fieldpost is measured beside has dependencies of its own.
[ "$1" = bench ] && venv=.venv-bench && locks="requirements-bench.lock"
# One stamp for both kinds: what was installed last is what counts.
stamp="$venv/.installed"

wanted() {
    pwd -P
    cat "$@" pyproject.toml | cksum
}

is_installed() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] || return 1
    [ "$(cat "$stamp")" = "$(wanted $locks)" ] && return 0
    # What tests need includes what running needs.
    [ "$1" = run ] && [ "$(cat "$stamp")" = "$(wanted requirements.lock requirements-dev.lock)" ]
}

is_usable() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    # Scripts in it name the place where it was made.
    [ ! -f "$stamp" ] || [ "$(head -n 1 "$stamp")" = "$(pwd -P)" ]
}

install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

is_installed "$1" && exit 0
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Fieldpost needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2
    exit 1
}
is_usable || "$python" -m venv --clear "$venv"
echo "installing into $venv ..."
rm -f "$stamp"
for lock in $locks; do
    install --require-hashes -r "$lock"
done
[ "$1" = bench ] || install --no-deps --no-build-isolation --editable .
wanted $locks >"$stamp"
