# SPDX-License-Identifier: Apache-2.0
"""`ceremony pin`: another PIN for a token, SoftHSM's or a vendor's, so that a file always has the one it takes.

Implements HSM section 2 and ORGANISATION "Commands of the operator". The new PIN is written beside the old before the
token hears of it, and takes its place when the token has shown that it takes it. Whichever of the two a kill leaves as
the token's, the next call finds out by one try of the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from getpass import getpass
from pathlib import Path

from config.ceremonies import CeremonyRefused, Step
from config.database_roles import PROCESSES
from config.hsm import ROLE_TOKENS, hsm_config, pin_file, waiting_pin
from holdfast.files import explained, flush_directory, write_whole
from hsm.ceremony import Ceremony
from hsm.config import PinFile, PinSource, pin_of
from hsm.errors import HsmError, HsmNewPinRefused, HsmPinRejected


class PinChange:
    """The change of one token's PIN.

    file: where the PIN lies, or will. new: what gives the new one; without it, it is typed, twice.
    """

    def __init__(self, token: str, *, file: Path, new: PinSource | None) -> None:
        self._config, self._token, self._file, self._given = hsm_config(), token, file, new
        self._ceremony = Ceremony(self._config)
        self._beside = waiting_pin(file)

    def steps(self) -> Iterator[Step]:
        """Give what is missing. Raises CeremonyRefused for a token that no ceremony has made, or two new PINs.

        HsmPinRejected where the old one lies in a file that was refused before.
        """
        if not self._ceremony.has(self._token):
            raise CeremonyRefused(f"The installation has no token {self._token}. Hold `ceremony init` first.")
        stopped = self._beside.exists()
        if stopped and self._given is not None and self._given.read() != PinFile(self._beside).read():
            raise CeremonyRefused(
                f"A change was stopped before its end, and {self._beside} has its new PIN, which is another: hold this "
                "again without --new-pin-fd. The other one can come after it."
            )
        if not stopped:
            if isinstance(self._config.pin(self._token), PinFile):
                # Before anybody thinks of a new one.
                self._config.refused_pins.require_untried(self._token)
            yield Step(f"write the new PIN to {self._beside}, for this account alone", self._write)
        yield Step(
            f"have the token {self._token} take the PIN of {self._beside}"
            + (", unless it has: a change was stopped before its end, and one try shows whether" if stopped else "")
            + self._to_stop(),
            self._look_and_change if stopped else self._change,
        )
        yield Step(f"put {self._beside} in the place of {self._file}", self._put_in_place)

    def _services(self) -> list[str]:
        return [f"holdfast-{role}" for role in PROCESSES if self._token in ROLE_TOKENS[role]]

    def _to_stop(self) -> str:
        services = ", ".join(self._services())
        return f". Stop {services} before you go on" if services else ""

    def _write(self) -> None:
        if self._given is not None:
            new = self._given.read()
        else:
            asked = f"New PIN of the HSM token {self._token}"
            new = pin_of(getpass(f"{asked}: ").encode())
            if pin_of(getpass(f"{asked}, once more: ").encode()) != new:
                raise CeremonyRefused("The two are not the same. Nothing was changed.")
        # One that is no change must not seem to be one.
        if self._config.pin(self._token).read() == new:
            raise CeremonyRefused(f"This is the PIN that the token {self._token} has. Nothing was changed.")
        with explained(self._beside, what="{path} cannot be written, so nothing was changed: {why}."):
            self._beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._beside, new.reveal() + b"\n")

    def _look_and_change(self) -> None:
        if not self._ceremony.takes_pin(self._token, PinFile(self._beside).read()):
            self._change()

    def _change(self) -> None:
        try:
            self._ceremony.set_pin(self._token, PinFile(self._beside).read())
        except (HsmPinRejected, HsmNewPinRefused):
            # The token has said that it has another: what it never took must not be taken for it.
            self._beside.unlink()
            raise
        except HsmError as error:
            raise CeremonyRefused(
                f"{error}. Whether the token {self._token} has the new PIN is not known: it takes that of "
                f"{self._file}, or that of {self._beside}. Hold this again, which finds out."
            ) from error

    def _put_in_place(self) -> list[str]:
        with explained(self._file, what="{path} cannot be written: {why}. Mend that, then hold this again."):
            self._beside.replace(self._file)
            flush_directory(self._file.parent)
        if self._file == pin_file(self._token):
            # It was of the PIN that lay here, and the token has just taken the one that does now.
            self._config.refused_pins.mark(self._token).unlink(missing_ok=True)
        return [*self._what_next()]

    def _what_next(self) -> Iterator[str]:
        yield f"{self._file} has the PIN that the token {self._token} takes now."
        services = self._services()
        if not services:
            yield "No service needs it: take it off this machine when you have it elsewhere."
        elif self._config.softhsm:
            yield (
                "A copy of this home that an account has still takes the old PIN: give "
                f"{', '.join(services)} the token and the PIN again before you start them (manage.py ceremony "
                "hand-out, as root)."
            )
        else:
            yield f"Put it where {', '.join(services)} read it before you start them."
        if services:
            yield "A mark of a refused PIN that one of them left stays until you remove it."
        if self._config.softhsm:
            yield "Copies from before, in backups/ and elsewhere, take the old PIN: keep it with them, or destroy them."
