# SPDX-License-Identifier: Apache-2.0
"""The process behind hsm.ceremony: one request on standard input, one act, one answer on standard output.

Implements HSM section 6.4: keys are made in a copy of the token, used once, and committed whole.
Is started by hsm.ceremony only; prints nothing else.
"""

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pkcs11 import Attribute
from pkcs11 import exceptions as ck

from hsm import birth, pkcs11, signing
from hsm import manifest as manifests
from hsm.attributes import ArrayMapper
from hsm.checks import check_token, find_key
from hsm.config import HsmConfig
from hsm.directories import RuntimeDirectory, commit
from hsm.errors import HsmError, HsmKeyMissing, HsmNewPinRefused, HsmPinRejected, HsmUnavailable
from hsm.manifest import Manifest, TokenRecord, key_label, locked, module_sha256
from hsm.pkcs11 import Meaning, meaning
from hsm.token_birth import create_token


@dataclass
class Workshop:
    """The copy of one token on which an act works, and the manifest that the act will replace."""

    config: HsmConfig
    manifest: Manifest
    name: str
    pin: str
    directory: RuntimeDirectory | None

    @property
    def record(self) -> TokenRecord:
        return self.manifest.token(self.name)

    @contextmanager
    def session(self, serial: str) -> Iterator[Any]:
        """A fresh library, login and session on the copy; all gone at the end."""
        # Opened anew for each step: what was made is then read from the files, as the
        # next start will, and not from memory.
        library = pkcs11.initialize(self.config.module)
        try:
            for token in library.get_tokens():
                if token.serial == serial.encode():
                    yield token.open(rw=True, user_pin=self.pin, attribute_mapper=ArrayMapper())
                    return
            raise HsmUnavailable(f"the token {self.name} (serial {serial}) is not present")
        finally:
            library.c_finalize()

    def commit(self, record: TokenRecord) -> None:
        """Check everything in a fresh session, as the next start will, then commit."""
        with self.session(record.serial) as session:
            # Before the commit. A key that does not work after it would stop every process at its next start.
            check_token(session, record, token=self.name)
        tokens = None if self.directory is None else self.directory.tokens
        commit(self.config, self.manifest, self.name, record, tokens)


def _create_token(workshop: Workshop, *, so_pin: str) -> dict[str, Any]:
    label = f"holdfast-{workshop.name}"
    library = pkcs11.initialize(workshop.config.module)
    try:
        serial = create_token(library, label=label, so_pin=so_pin, pin=workshop.pin)
    finally:
        library.c_finalize()
    workshop.commit(TokenRecord(serial, label, 1, {}, ()))
    return {"serial": serial}


def _adopt_token(workshop: Workshop, *, serial: str) -> dict[str, Any]:
    with workshop.session(serial) as session:
        label = session.token.label
    workshop.commit(TokenRecord(serial, label, 1, {}, ()))
    return {"serial": serial}


def _create_key(workshop: Workshop, *, kind: str, tenant: str = "") -> dict[str, Any]:
    record = workshop.record
    existing = record.find(kind, tenant=tenant)
    # One in this version. Escrow keys have successors, and deposits go on naming the older ones.
    if existing and kind != "escrow":
        raise HsmError(f"the token {workshop.name} has its {kind} key already")
    version = existing[-1].version + 1 if existing else 1
    # Together, so that no tenant key was ever wrapped without being bound.
    kinds = (kind, "binding") if kind == "master" else (kind,)
    with workshop.session(record.serial) as session:
        keys = [birth.MAKERS[one](session, _naming(workshop, one, tenant, version)) for one in kinds]
    if kind == "master":
        workshop.manifest = replace(workshop.manifest, are_tenant_keys_bound=True)
    workshop.commit(replace(record, generation=record.generation + 1, keys=(*record.keys, *keys)))
    return asdict(keys[0])


def _naming(workshop: Workshop, kind: str, tenant: str, version: int) -> birth.Naming:
    # Random: a label can be repeated by mistake, and two keys of one id are refused (FAULTS H9).
    cka_id = secrets.token_bytes(16)
    return birth.Naming(kind, cka_id, key_label(kind, tenant, version), version, tenant, workshop.manifest.oaep)


def _destroy_escrow_keys(workshop: Workshop, *, tenant: str) -> dict[str, Any]:
    record = workshop.record
    gone = record.find("escrow", tenant=tenant)
    if workshop.directory is not None:
        # SoftHSM deletes an object's lock file with it, and fails where there is none: the copy was made without.
        for path in workshop.directory.tokens.rglob("*.object"):
            path.with_suffix(".lock").touch(mode=0o600)
    with workshop.session(record.serial) as session:
        for key in gone:
            # Found by all that pins it first: an edited manifest must not have another tenant's key destroyed. Then all
            # that bears its id, the public half beside it as well.
            find_key(session, key)
            for one in list(session.get_objects({Attribute.ID: bytes.fromhex(key.id)})):
                one.destroy()
    left = tuple(key for key in record.keys if key not in gone)
    workshop.commit(replace(record, generation=record.generation + 1, keys=left))
    return {}


def _sign(workshop: Workshop, *, tenant: str, data: str) -> dict[str, Any]:
    found = workshop.record.find("tenant-root", tenant=tenant)
    if not found:
        raise HsmKeyMissing(f"no ceremony has made a root key for the tenant {tenant}")
    with workshop.session(workshop.record.serial) as session:
        # Checked before it signs: a root signature by the wrong key cannot be taken back.
        check_token(session, replace(workshop.record, keys=(found[-1],)), token=workshop.name)
        key = find_key(session, found[-1])
        return {"signature": signing.sign(key, found[-1].algorithm, bytes.fromhex(data)).hex()}


def _look(workshop: Workshop) -> dict[str, Any]:
    with workshop.session(workshop.record.serial):
        return {}


def _set_pin(workshop: Workshop, *, new: str) -> dict[str, Any]:
    record = workshop.record
    with workshop.session(record.serial) as session:
        try:
            session.set_pin(workshop.pin, new)
        except _NEW_PIN_REFUSED as error:
            # Not of the PIN that the login has just shown to be right: nothing is marked as wrong for it.
            raise HsmNewPinRefused(
                f"the module does not take the new PIN ({type(error).__name__}); the token keeps its own"
            ) from error
    workshop.pin = new
    try:
        workshop.commit(replace(record, generation=record.generation + 1))
    except (HsmError, ck.PKCS11Error) as error:
        if workshop.directory is not None:
            raise  # only the copy has it
        raise HsmUnavailable(f"the token has the new PIN, and then it answered {error!r}") from error
    return {}


# What C_SetPIN says of a new PIN that is too short, too long, or has the wrong signs; PKCS#11 2.40 section 5.5.
_NEW_PIN_REFUSED = (ck.PinInvalid, ck.PinLenRange)
# A list of what may be asked, so that no name from the pipe reaches any other function.
_ACTS: dict[str, Callable[..., dict[str, Any]]] = {
    "create_token": _create_token,
    "adopt_token": _adopt_token,
    "create_key": _create_key,
    "destroy_escrow_keys": _destroy_escrow_keys,
    "sign": _sign,
    "look": _look,
    "set_pin": _set_pin,
}


def _perform(request: dict[str, Any]) -> dict[str, Any]:
    config = HsmConfig(
        home=Path(request["home"]),
        module=Path(request["module"]),
        softhsm=request["softhsm"],
        runtime=Path(request["runtime"]),
    )
    name = request["token"]
    directory = RuntimeDirectory(config) if config.softhsm else None
    try:
        # One ceremony at a time: both would begin at the same generation, and the later
        # commit would lose the other's key.
        with locked(config.home, "ceremony", exclusive=True):
            manifest = _manifest(config)
            if directory is not None:
                # This token only: the others' keys have no business in this process.
                directory.fill(config, manifest, [name] if name in manifest.tokens else [])
                directory.activate()
            workshop = Workshop(config, manifest, name, request["pin"], directory)
            return _ACTS[request["act"]](workshop, **request["arguments"])
    except ck.PKCS11Error as error:
        if meaning(error) is Meaning.PIN_REJECTED:
            raise HsmPinRejected(f"the HSM refused the PIN: {error!r}") from error
        raise HsmUnavailable(f"the HSM answered {error!r}; nothing was changed") from error
    finally:
        if directory is not None:
            directory.remove()


def _manifest(config: HsmConfig) -> Manifest:
    if config.manifest_path.exists():
        manifest = manifests.load(config.manifest_path)
        manifest.check_module(config.module)
        return manifest
    # SoftHSM refuses every other OAEP hash; clients refuse SHA-1 outside development tenants.
    oaep = "oaep-sha1" if config.softhsm else "oaep-sha256"
    return Manifest(str(config.module), module_sha256(config.module), oaep, {})


def main() -> None:
    try:
        answer = _perform(json.load(sys.stdin))
    except HsmError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
