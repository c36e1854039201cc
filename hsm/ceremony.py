# SPDX-License-Identifier: Apache-2.0
"""Making tokens and keys: what only a ceremony does, each act in a process of its own.

Implements HSM section 1 and the table of tokens in ESCROW "Keys". Works on a copy, checks what it made in a
fresh session, and only then replaces the pristine directory and the manifest; a backup is kept each time.
Does not decide who attends: the transcript and its signatures belong to the caller.
"""

import hashlib
import json
import os
import secrets
import string
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from holdfast.core.base.secret import SecretBytes
from holdfast.files import remove_parts, write_whole
from hsm import errors, signing
from hsm import manifest as manifests
from hsm.backend import EscrowKeyRef, EscrowPublicKey, OaepAlgorithm, SigningPublicKey
from hsm.config import TOKENS, HsmConfig
from hsm.errors import HsmError, HsmKeyMissing, HsmPinRejected
from hsm.manifest import KeyRecord, Manifest, locked, module_sha256

# Signs that survive a shell, a configuration file and a keyboard.
_PIN_CHARACTERS = string.ascii_letters + string.digits
# 190 bits: SoftHSM counts no wrong PINs, and its files may be tried offline. HSM section 3.3.
_PIN_LENGTH = 32


class Ceremony:
    """CeremonyToken, and the making of every other key. Needs the PIN of the token that it works on.

    Each method raises HsmError when its act has been done before, HsmPinRejected, HsmTokenDamaged,
    HsmUnavailable; a failed or killed one leaves tokens and manifest as they were. May be used in a process
    that has tokens open: those see the change with their next `refresh`.
    """

    def __init__(self, config: HsmConfig) -> None:
        self._config = config

    def create_tokens(self) -> None:
        """Make the four tokens, each in its own directory, with random PINs in `pins/` (0600).

        May be repeated after it was interrupted; raises HsmError when all four exist.
        """
        if not self._config.softhsm:
            raise HsmError("a vendor's own tools make its tokens: adopt them by serial")
        self._make(dict.fromkeys(TOKENS, ""))

    def adopt_tokens(self, serials: Mapping[str, str]) -> None:
        """Pin four tokens that a vendor's tools have made, by serial; the PINs are those of the config."""
        if self._config.softhsm or set(serials) != set(TOKENS):
            raise HsmError("adopting takes one serial for each token, of a module that keeps tokens itself")
        self._make(serials)

    def create_master_key(self) -> int:
        """Make the first master key on `root`, and the key that binds what it wraps; return its version, 1.

        Raises HsmError when there is one.
        """
        return self._key("root", "master", {}).version

    def has(self, token: str, kind: str = "", *, tenant: str = "") -> bool:
        """Tell whether a ceremony has made a token, or a kind of key on it; of a tenant, if named. Needs no PIN."""
        if not self._config.manifest_path.exists():
            return False
        record = manifests.load(self._config.manifest_path).tokens.get(token)
        return record is not None and (not kind or bool(record.find(kind, tenant=tenant)))

    @property
    def are_tenant_keys_bound(self) -> bool:
        """Whether every tenant key is bound to its tenant. Only until then may a ceremony bind one."""
        return manifests.load(self._config.manifest_path).are_tenant_keys_bound

    @property
    def has_binding_key(self) -> bool:
        """Whether there is a key to bind them with; an installation from before was made without."""
        return bool(manifests.load(self._config.manifest_path).token("root").find("binding"))

    def create_binding_key(self) -> None:
        """Make the binding key on a `root` from before there was one. Raises HsmError when there is one."""
        self._key("root", "binding", {})

    def finish_binding(self) -> None:
        """Say for ever that every tenant key is bound. Needs no PIN."""
        self._change_manifest(lambda manifest: replace(manifest, are_tenant_keys_bound=True))

    def create_log_key(self) -> SigningPublicKey:
        """Make the log signing key: Ed25519, or P-256 where the module lacks it."""
        return signing.public_key(bytes.fromhex(self._key("log", "log", {}).public))

    def create_escrow_key(self, tenant_id: str) -> EscrowPublicKey:
        """Make the tenant's next escrow key: RSA-3072, unwrap only, with a random 16-byte CKA_ID.

        It has re-wrapped a test key end to end before this returns.
        """
        return _escrow_public(self._key("escrow", "escrow", {"tenant": tenant_id}))

    def escrow_keys(self, tenant_id: str) -> list[EscrowPublicKey]:
        """Return the tenant's escrow keys, oldest first; needs no PIN."""
        manifest = manifests.load(self._config.manifest_path)
        return [_escrow_public(record) for record in manifest.token("escrow").find("escrow", tenant=tenant_id)]

    def destroy_escrow_keys(self, tenant_id: str) -> None:
        """Destroy every escrow key of a tenant: nothing that was sealed to one is ever opened again.

        Copies of the token in `backups/` still have them. With none left it changes nothing.
        """
        if self.escrow_keys(tenant_id):
            self._act("destroy_escrow_keys", "escrow", {"tenant": tenant_id})

    def token_backups(self, token: str) -> list[Path]:
        """Return the copies of a token that lie in `backups/`, oldest first: those of before the newest are older."""
        newest = self._config.backup(token, manifests.load(self._config.manifest_path).token(token).generation)
        found = newest.parent.glob(f"{token}-*") if newest.parent.is_dir() else []
        return sorted(path for path in found if path.is_dir() and path != newest)

    def create_tenant_root(self, tenant_id: str) -> SigningPublicKey:
        """Make the tenant's root signing key on `ceremony`. Raises HsmError when the tenant has one."""
        record = self._key("ceremony", "tenant-root", {"tenant": tenant_id})
        return signing.public_key(bytes.fromhex(record.public))

    def tenant_root(self, tenant_id: str) -> SigningPublicKey:
        """Return the tenant's root public key; needs no PIN. Raises HsmKeyMissing."""
        found = manifests.load(self._config.manifest_path).token("ceremony").find("tenant-root", tenant=tenant_id)
        if not found:
            raise HsmKeyMissing(f"no ceremony has made a root key for the tenant {tenant_id}")
        return signing.public_key(bytes.fromhex(found[-1].public))

    def sign_with_tenant_root(self, tenant_id: str, data: bytes) -> bytes:
        """Return the raw 64-byte signature of `data`. Raises HsmKeyMissing for a tenant without a root."""
        answer = self._act("sign", "ceremony", {"tenant": tenant_id, "data": data.hex()})
        return bytes.fromhex(answer["signature"])

    def set_pin(self, token: str, new: SecretBytes) -> None:
        """Change a token's PIN, from the one of the config (PKCS#11 C_SetPIN), and prove the new one by a login.

        Raises HsmError for one that the module does not take, and nothing was changed. A vendor's token has the new PIN
        from the call on, whatever comes after it: whoever asks keeps it first. SoftHSM's copies of before, in
        `backups/` and with accounts, go on opening by the old one.
        """
        self._act("set_pin", token, {"new": new.reveal().decode()})

    def takes_pin(self, token: str, pin: SecretBytes) -> bool:
        """Tell whether a token takes this PIN, by one try: real ones count those that they refuse."""
        try:
            self._act("look", token, {}, pin=pin)
        except HsmPinRejected:
            return False
        return True

    def accept_module(self) -> None:
        """Pin the module as it is now, after an upgrade that the operator made. Needs no PIN."""
        path, digest = str(self._config.module), module_sha256(self._config.module)
        self._change_manifest(lambda manifest: replace(manifest, module_path=path, module_sha256=digest))

    def _change_manifest(self, change: Callable[[Manifest], Manifest]) -> None:
        home = self._config.home
        # Always in this order, here and in `directories`: two ceremonies could otherwise wait for each other for ever.
        with locked(home, "ceremony", exclusive=True), locked(home, "commit", exclusive=True):
            remove_parts(home)
            change(manifests.load(self._config.manifest_path)).save(self._config.manifest_path)

    def _make(self, serials: Mapping[str, str]) -> None:
        # What is there stays: a token that was made again would lose every key on it.
        existing = manifests.load(self._config.manifest_path).tokens if self._config.manifest_path.exists() else {}
        missing = [name for name in TOKENS if name not in existing]
        if not missing:
            raise HsmError(f"{self._config.manifest_path} exists: the tokens have been made")
        self._config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in missing:
            if serials[name]:
                self._act("adopt_token", name, {"serial": serials[name]})
                continue
            officer_pin = self._new_pin(f"{name}.so-pin")
            # PINs before the token: killed in between, there is a PIN without a token,
            # and not a token that nobody can open.
            self._new_pin(f"{name}.pin")
            self._act("create_token", name, {"so_pin": officer_pin.read_text().strip()})

    def _new_pin(self, name: str) -> Path:
        path = self._config.home / "pins" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Kept from an attempt that was interrupted: the token may have been initialised with it.
        if not path.exists():
            pin = "".join(secrets.choice(_PIN_CHARACTERS) for _ in range(_PIN_LENGTH))
            write_whole(path, pin.encode() + b"\n", replaces=True)
        return path

    def _key(self, token: str, kind: str, arguments: dict[str, Any]) -> KeyRecord:
        return KeyRecord(**self._act("create_key", token, {"kind": kind, **arguments}))

    def _act(
        self, act: str, token: str, arguments: Mapping[str, Any], *, pin: SecretBytes | None = None
    ) -> dict[str, Any]:
        """Run one act in a process of its own: this one may have the library open, on other tokens.

        pin: one that is tried whatever is marked; without it that of the config, as `HsmConfig.trying_pin` says.
        """
        with nullcontext() if pin is not None else self._config.trying_pin(token):
            return self._ask(act, token, arguments, pin or self._config.pin(token).read())

    def _ask(self, act: str, token: str, arguments: Mapping[str, Any], pin: SecretBytes) -> dict[str, Any]:
        request = {
            "act": act,
            "token": token,
            "arguments": dict(arguments),
            "home": str(self._config.home),
            "module": str(self._config.module),
            "softhsm": self._config.softhsm,
            "runtime": str(self._config.runtime_root),
            # Over a pipe: neither the arguments nor the environment of a process are private.
            "pin": pin.reveal().decode(),
        }
        package = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run(
            [sys.executable, "-m", "hsm.ceremony_process"],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": package},
            check=False,
        )
        if done.returncode != 0:
            raise HsmError(f"the ceremony process ended with {done.returncode}; nothing was changed")
        answer: dict[str, Any] = json.loads(done.stdout)
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer


def _escrow_public(record: KeyRecord) -> EscrowPublicKey:
    spki = bytes.fromhex(record.public)
    algorithm = cast(OaepAlgorithm, record.algorithm)
    ref = EscrowKeyRef(record.tenant, bytes.fromhex(record.id), hashlib.sha256(spki).digest(), algorithm)
    return EscrowPublicKey(record.tenant, record.version, ref, spki)
