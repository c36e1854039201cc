#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what `make up` (argument: run) or `make test` (argument: test) needs on Debian 12, once:
# Debian packages that are missing, a virtual environment, hash-pinned requirements, this package.
# Works as root or for a user who may use sudo. Does nothing when everything is there.
set -eu
cd "$(dirname "$0")/.."
what=${1:-run}

packages="python3 python3-venv softhsm2 libpq5 nginx-light"
requirements=requirements.txt
if [ "$what" = test ]; then
    packages="$packages gcc libc6-dev git make procps strace postgresql redis-server chromium fonts-dejavu-core"
    requirements=requirements-dev.txt
fi

missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "These Debian packages are missing:$missing. Install them as root, then try again." >&2; exit 1; }
        as_root=sudo
    fi
    echo "Installing Debian packages:$missing"
    # Debian starts a service as soon as its package is there, and at each boot. Ours are started by our own commands, on
    # loopback, and nothing of theirs is wanted: this is how a package is told (invoke-rc.d(8)).
    guard=/usr/sbin/policy-rc.d
    if [ ! -e "$guard" ]; then
        trap '$as_root rm -f "$guard"' EXIT
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$guard" >/dev/null
        $as_root chmod 755 "$guard"
    fi
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 -- the list is words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    for service in nginx postgresql redis-server; do
        case "$missing " in *" $service"[\ -]*) $as_root systemctl disable "$service" >/dev/null 2>&1 || true ;; esac
    done
fi

[ -x .venv/bin/python ] || { echo "Making a virtual environment in .venv"; python3 -m venv .venv; }
stamp=.venv/installed-$what
wanted=$(cat "$requirements" pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing $requirements (hash-pinned)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    # Left by earlier versions: psycopg would prefer it to libpq5, which Debian mends.
    .venv/bin/python -m pip uninstall --quiet --yes psycopg-binary 2>/dev/null
    echo "$wanted" > "$stamp"
fi
# The npm packages of web/sdk, as its lock file names them, by the Node that came with the requirements.
[ "$what" != test ] || .venv/bin/python -m tests.cast.node
