# SPDX-License-Identifier: Apache-2.0
"""`ceremony init`: the tokens and keys that an installation has before any tenant is founded on it.

Implements ESCROW "Keys" and ORGANISATION "Commands of the operator". Every key is checked in a fresh session before it
counts, and a copy of its token is kept beside (`hsm.ceremony`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from config.ceremonies import CeremonyRefused, Step
from config.hsm import hsm_config
from config.roles import WRITING_ROLES, create_role_key, role_key_file
from hsm.ceremony import Ceremony
from hsm.config import TOKENS
from tenants.models import Tenant


def steps(adopted: Mapping[str, str]) -> Iterator[Step]:
    """Give what is missing. adopted: the serials of a vendor's tokens by our names, none of SoftHSM.

    Raises CeremonyRefused where the serials do not fit the module, or the database has tenants of another HSM.
    """
    config = hsm_config()
    ceremony = Ceremony(config)
    missing = [name for name in TOKENS if not ceremony.has(name)]
    if missing and Tenant.objects.exists():
        raise CeremonyRefused(
            f"The database has tenants, and {config.home} has not the HSM on which they were founded. Set "
            "HOLDFAST_HSM_HOME and the database to those of one installation, or put the backup of that home back."
        )
    if missing and config.softhsm:
        if adopted:
            raise CeremonyRefused(
                "SoftHSM's tokens are made here. --adopt is for a vendor's: HOLDFAST_HSM_SOFTHSM=false."
            )
        yield Step(
            f"make the HSM tokens {', '.join(missing)} in {config.home}, with random PINs", ceremony.create_tokens
        )
    elif missing:
        if set(adopted) != set(TOKENS):
            raise CeremonyRefused(f"Name the vendor's token for each of {', '.join(TOKENS)}: --adopt TOKEN=SERIAL.")
        yield Step(
            "pin the vendor's tokens by serial: " + ", ".join(f"{name} {adopted[name]}" for name in TOKENS),
            partial(ceremony.adopt_tokens, adopted),
        )
    if not ceremony.has("root", "master"):
        yield Step(
            "make master key 1 and the key that binds what it wraps, on the token root", ceremony.create_master_key
        )
    if not ceremony.has("log", "log"):
        yield Step("make the key that signs the logs, on the token log", ceremony.create_log_key)
    for role in WRITING_ROLES:
        if not role_key_file(role).exists():
            yield Step(f"make the key of the role {role}, in {role_key_file(role)}", partial(create_role_key, role))
