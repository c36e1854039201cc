# SPDX-License-Identifier: Apache-2.0
"""A machine of its own for one test: namespaces in which a page for operators is followed as it stands.

It has its own /etc, /opt, /run, /var/lib, /var/backups and network, and all else of the machine of the tests. On it are
a PostgreSQL server that speaks TLS only, as db.example, and the project in /opt/holdfast. What a unit of deploy/systemd
says of a service's account, settings, credentials and directories is done here as systemd does it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cast.accounts import interpreter
from tests.cast.postgres import CANDIDATES
from tests.cast.server import PROJECT, wait_for

ADMINISTRATOR = "the administrator's password"
_SYSTEMD = PROJECT / "deploy" / "systemd"

# The names of other machines are this one's.
_MAKE = r"""
ip link set lo up
mkdir -p etc opt/holdfast run lib backup
cp -a /etc/. etc/
mount --bind etc /etc
mount --bind opt /opt
mount --bind run /run
mount --bind lib /var/lib
mount --bind backup /var/backups
mkdir -p /var/lib/nginx /run/lock
echo "127.0.0.1 db.example mail.example holdfast.example" >> /etc/hosts
cd /opt/holdfast
for entry in "$PROJECT"/*; do
    name=${entry##*/}
    if [ -d "$entry" ]; then mkdir "$name"; else touch "$name"; fi
    mount --bind "$entry" "$name"
done
"$PYTHON" -m venv --without-pip .venv
cd .venv/lib/python3*/site-packages
echo "$LIBRARIES" | tr : '\n' > tests.pth
"""
# Two certificates of one authority, whom everybody on this machine believes.
_CERTIFY = r"""
new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -x509 $new -days 2 -subj "/CN=Test authority" -keyout ca.key -out ca.pem
for name in db holdfast; do
    openssl req $new -subj "/CN=$name.example" -keyout $name.key -out $name.csr
    echo "subjectAltName=DNS:$name.example" > $name.ext
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $name.ext -out $name.pem
done
cat ca.pem >> /etc/ssl/certs/ca-certificates.crt
"""
_DATABASE = r"""
install -d -o postgres -m 700 pg
echo "$ADMINISTRATOR" > pg.password
chown postgres db.key pg.password
chmod 600 db.key
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
as_postgres "$BINARIES/initdb" -D pg -U postgres --auth=scram-sha-256 --pwfile=pg.password -E UTF8 --locale=C.UTF-8
echo "hostssl all all 127.0.0.1/32 scram-sha-256" > pg/pg_hba.conf
cat >> pg/postgresql.auto.conf <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
ssl = on
ssl_cert_file = '$PWD/db.pem'
ssl_key_file = '$PWD/db.key'
END
as_postgres "$BINARIES/pg_ctl" -D pg -l pg/log -w -t 60 start
"""


@dataclass
class Machine:
    """The namespaces, held by one process, and what was started in them."""

    directory: Path
    holder: subprocess.Popen[bytes]
    running: dict[str, subprocess.Popen[bytes]]

    def within(self, *command: str) -> list[str]:
        """Return the command that runs another on this machine, as root."""
        return ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", "--wd", *command]

    def run(self, script: str, *, given: str = "", account: str = "root", **environment: str) -> str:
        """Run a script on this machine until it fails, with what is typed meanwhile; returns all that it said."""
        shell = ["bash", "-eu", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            self.within(*(["runuser", "-u", account, "--"] if account != "root" else []), *shell),
            input=given,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def start_unit(self, role: str) -> None:
        """Start a service by what its unit says; its log is `ROLE.log` in the directory."""
        unit = [line.partition("=") for path in _units(role) for line in path.read_text().splitlines() if "=" in line]
        credentials, state = f"/run/credentials/holdfast-{role}", f"/var/lib/holdfast-{role}"
        account = _all(unit, "User")[-1]
        script = [
            f"install -d -m 700 -o {account} {credentials}",
            f"install -d -m 700 -o {account} -g {account} {state}",
        ]
        for one in _all(unit, "LoadCredential"):
            name, _, path = one.replace("%j", role).partition(":")
            script.append(f"install -m 400 -o {account} {path} {credentials}/{name}")
        own = f"-o {account} -g {account}"
        script += [f"install -d -m 750 {own} /run/{one}" for one in _all(unit, "RuntimeDirectory")]
        self.run("\n".join(script))
        given = " ".join(_all(unit, "Environment")).replace("%d", credentials).replace("%j", role)
        files = [one.replace("%j", role) for one in _all(unit, "EnvironmentFile")]
        (program,) = _all(unit, "ExecStart")
        # A file's settings win over the unit's own, and a later file's over an earlier one's (systemd.exec(5)).
        began = f"set -a; {given}; {' '.join(f'. {one};' for one in files)} umask 077; cd /opt/holdfast; "
        began += f"exec setpriv --reuid {account} --regid {account} --init-groups --no-new-privs {program}"
        with (self.directory / f"{role}.log").open("ab") as log:
            self.running[role] = subprocess.Popen(
                self.within("bash", "-c", began),
                env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ending(self, role: str) -> int:
        """Wait until a service has ended, and return its status."""
        return self.running.pop(role).wait(timeout=60)

    def stop_units(self, *roles: str) -> None:
        for role in roles:
            self.running[role].terminate()
        for role in roles:
            self.running.pop(role).wait(timeout=30)

    def log(self, role: str) -> str:
        return (self.directory / f"{role}.log").read_text()


def _units(role: str) -> tuple[Path, Path]:
    return _SYSTEMD / "holdfast-.service.d" / "hardening.conf", _SYSTEMD / f"holdfast-{role}.service"


def _all(unit: list[tuple[str, str, str]], name: str) -> list[str]:
    return [value for found, _, value in unit if found == name]


def can_be_made() -> bool:
    """Tell whether this account may make such a machine."""
    done = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and done.returncode == 0 and interpreter() is not None


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """Make a machine whose files lie in `directory`; nothing of it is left afterwards but these."""
    found = interpreter()
    assert found is not None
    directory.chmod(0o711)
    with subprocess.Popen(
        ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", "echo; exec sleep infinity"],
        cwd=directory,
        stdout=subprocess.PIPE,
    ) as holder:
        made = Machine(directory, holder, {})
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            here = f"cd {shlex.quote(str(directory))}\n"
            python, libraries = found
            libraries = os.pathsep.join(one for one in libraries.split(os.pathsep) if one != str(PROJECT))
            made.run(here + _MAKE, PROJECT=str(PROJECT), PYTHON=python, LIBRARIES=libraries)
            made.run(here + _CERTIFY)
            made.run(here + _DATABASE, ADMINISTRATOR=ADMINISTRATOR, BINARIES=str(CANDIDATES[0]))
            yield made
        finally:
            made.stop_units(*made.running)
            stop = f"cd {shlex.quote(str(directory))}; nginx -s stop; setpriv --reuid postgres --regid postgres"
            stop += f" --clear-groups {CANDIDATES[0]}/pg_ctl -D pg -m immediate stop"
            subprocess.run(made.within("sh", "-c", stop), capture_output=True, check=False)
            holder.kill()


def wait_until(question: str, made: Machine, *, seconds: float = 60) -> str:
    """Ask again until a script ends well, and return what it said."""
    said: list[str] = []

    def ask() -> bool:
        for role, running in made.running.items():
            assert running.poll() is None, made.log(role)
        done = subprocess.run(made.within("bash", "-c", question), capture_output=True, text=True, check=False)
        said[:] = [done.stdout]
        time.sleep(0.2)
        return done.returncode == 0

    wait_for(ask, seconds)
    return said[0]
