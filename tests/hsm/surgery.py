# SPDX-License-Identifier: Apache-2.0
"""Changes a token behind the product's back, as a careless or hostile holder of its PIN could.

Runs as a process of its own, and commits the result as a ceremony would: only the checks can notice.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism

from hsm import birth
from hsm import manifest as manifests
from hsm.attributes import (
    MASTER,
    TENANT_KEY_BIRTH,
    TENANT_KEY_CAPABILITIES,
    TENANT_KEY_UNWRAP_TEMPLATE,
    WRAPPING_CAPABILITIES,
)
from hsm.ceremony_process import Workshop
from hsm.checks import key_check_value
from hsm.config import HsmConfig
from hsm.directories import RuntimeDirectory, commit

_WEAK_TEMPLATES: dict[str, dict[Attribute, Any]] = {
    "can_decrypt": {Attribute.DECRYPT: True, Attribute.ENCRYPT: True},
    "extractable": {Attribute.EXTRACTABLE: True},
    "modifiable": {Attribute.MODIFIABLE: True},
}


def operate(config: HsmConfig, token: str, what: str) -> None:
    """Perform `what` on `token`; see _perform for the choices."""
    arguments = [str(config.home), str(config.module), token, what]
    subprocess.run([sys.executable, "-m", "tests.hsm.surgery", *arguments], check=True)


def _perform(config: HsmConfig, token: str, what: str) -> None:
    manifest = manifests.load(config.manifest_path)
    directory = RuntimeDirectory(config)
    directory.fill(config, manifest, [token])
    directory.activate()
    pin = config.pin(token).read().reveal().decode()
    workshop = Workshop(config, manifest, token, pin, directory)
    record = manifest.token(token)
    with workshop.session(record.serial) as session:
        if what == "unbound":
            # As a ceremony left it before there were binding keys.
            naming = birth.Naming("master", b"an early master!", "master-v1", 1, "", "")
            keys = [birth.make_master(session, naming)]
        else:
            keys = [_changed(session, record.keys[0], what), *record.keys[1:]]
    changed = replace(record, generation=record.generation + 1, keys=tuple(keys))
    commit(config, manifest, token, changed, directory.tokens)
    directory.remove()


def _changed(session: Any, key: manifests.KeyRecord, what: str) -> manifests.KeyRecord:
    if what not in {"twin_label", "twin_id", "orphan"}:
        return _replace_master(session, key, what)
    cka_id = bytes.fromhex(key.id) if what == "twin_id" else b"another identity"
    label = key.label if what == "twin_label" else "another label"
    _master(session, cka_id, label, MASTER)
    return key


def _master(session: Any, cka_id: bytes, label: str, template: dict[Attribute, Any]) -> Any:
    return session.generate_key(
        KeyType.AES,
        256,
        id=cka_id,
        label=label,
        store=True,
        capabilities=WRAPPING_CAPABILITIES,
        template=template,
    )


def _replace_master(session: Any, key: manifests.KeyRecord, weakness: str) -> manifests.KeyRecord:
    """Make a master key with one weakness, and pin it as if the manifest had been changed with it."""
    template = dict(MASTER)
    if weakness == "no_template":
        del template[Attribute.UNWRAP_TEMPLATE]
    elif weakness == "readable_template":
        listed = dict(TENANT_KEY_UNWRAP_TEMPLATE)
        del listed[Attribute.SENSITIVE]
        template[Attribute.UNWRAP_TEMPLATE] = listed
    elif weakness == "any_mechanism":
        del template[Attribute.ALLOWED_MECHANISMS]
    else:
        template |= _WEAK_TEMPLATES[weakness]
    # MODIFIABLE goes last.
    template[Attribute.MODIFIABLE] = template.pop(Attribute.MODIFIABLE)
    cka_id = b"weak master key!"
    master = _master(session, cka_id, "master-v1-weak", template)
    canary = session.generate_key(KeyType.AES, 256, capabilities=TENANT_KEY_CAPABILITIES, template=TENANT_KEY_BIRTH)
    naming = birth.Naming("master", cka_id, "master-v1-weak", 1, "", "oaep-sha1")
    weak = birth._record(
        master,
        naming,
        "aes-256",
        kcv=key_check_value(canary),
        canary=master.wrap_key(canary, mechanism=Mechanism.AES_KEY_WRAP),
    )
    return replace(weak, tenant=key.tenant)


if __name__ == "__main__":
    home, module, token, what = sys.argv[1:]
    _perform(HsmConfig(home=Path(home), module=Path(module)), token, what)
