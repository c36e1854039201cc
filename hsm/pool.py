# SPDX-License-Identifier: Apache-2.0
"""The HSM as one process uses it: one login for each token, a few threads, each with its own sessions.

Implements HSM section 6 and FAULTS H1, H3, H4, H5, H10, H14. Initialised on opening, after fork.
Knows nothing of what the operations do; hands their callers HsmError only.
"""

import atexit
import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pkcs11 import Attribute
from pkcs11 import exceptions as ck

from hsm import manifest as manifests
from hsm import pkcs11
from hsm.attributes import ArrayMapper
from hsm.checks import check_token, find_key
from hsm.config import HsmConfig
from hsm.directories import RuntimeDirectory
from hsm.errors import HsmError, HsmKeyMismatch, HsmKeyMissing, HsmPinRejected, HsmRefused, HsmUnavailable
from hsm.locks import SharedLock
from hsm.manifest import KeyRecord, Manifest, TokenRecord, locked
from hsm.pkcs11 import Meaning, ThreadedLibrary, meaning

log = logging.getLogger(__name__)

T = TypeVar("T")

# Jobs waiting or running. More would only wait beyond their deadline: "unavailable" at
# once is the better answer (FAULTS H5).
_QUEUE: Final = 64
# A start may meet a failure that passes. A wrong PIN is none, and is tried once.
_START_TRIES: Final = 3
# Seconds between attempts to initialise again: an HSM that is away is not asked by every request, and one that is back
# is noticed within five seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# Tenant keys kept by a thread on a token. Unwrapping one again takes 70 µs (HSM section 5), so a bound costs little.
# Without one, every tenant ever served would take room in the module.
_SESSION_OBJECTS: Final = 512


class TokenSession:
    """One thread's session on one token, with the handles it has found; never shared, never kept."""

    def __init__(self, session: Any, record: TokenRecord) -> None:
        self.pkcs11 = session
        self.record = record
        self._keys: dict[str, Any] = {}
        self._objects: OrderedDict[bytes, Any] = OrderedDict()

    def key(self, record: KeyRecord) -> Any:
        """Return the pinned key. Raises HsmKeyMissing, HsmKeyMismatch."""
        if record.id not in self._keys:
            self._keys[record.id] = find_key(self.pkcs11, record)
        return self._keys[record.id]

    def remembered(self, name: bytes, make: Callable[[], Any]) -> Any:
        """Return the session object made for `name` before, or make it; the least used ones are destroyed."""
        # Objects are kept with the thread that made them: they die with its session (HSM section 8, quirk 17).
        if name in self._objects:
            self._objects.move_to_end(name)
            return self._objects[name]
        self._objects[name] = made = make()
        if len(self._objects) > _SESSION_OBJECTS:
            self._objects.popitem(last=False)[1].destroy()
        return made

    def alive(self) -> bool:
        """Tell whether a pinned private key can be seen: only a logged-in process on a present token can."""
        try:
            # From the handle when there is one: a search grows with the number of keys on the token.
            return all(self.key(record)[Attribute.ID].hex() == record.id for record in self.record.keys[:1])
        except (ck.PKCS11Error, HsmKeyMissing, HsmKeyMismatch):
            return False


class _Job(Generic[T]):
    def __init__(self, token: str, operation: Callable[[TokenSession], T], *, opens: bool, once: bool) -> None:
        self.token, self.operation, self.opens, self.once = token, operation, opens, once
        self.future: Future[T] = Future()


@dataclass
class _Held:
    """One thread's open sessions by token, and the library's start that they belong to."""

    sessions: dict[str, TokenSession]
    generation: int


class _StateLost(Exception):
    """The library lost its sessions, or its login; `error` says how we noticed."""


class Starts:
    """What starts that failed mean for the next one: a refused PIN is its end, and all else makes it wait a moment.

    It outlives whatever could not be started: a wrong PIN that is given again and again locks a real token (FAULTS H3).
    One start at a time.
    """

    def __init__(self) -> None:
        # The words and not the error: its traceback would hold the PIN.
        self._rejected: str | None = None
        self._pause, self._closed_until = 0.0, 0.0

    def require_open(self) -> None:
        """Raise HsmPinRejected once a PIN was refused, and HsmUnavailable for a moment after any other failure."""
        if self._rejected is not None:
            raise HsmPinRejected(self._rejected)
        if time.monotonic() < self._closed_until:
            raise HsmUnavailable("the HSM could not be initialised a moment ago")

    @contextmanager
    def one(self) -> Iterator[None]:
        """Make one start inside the `with`, which remembers how it failed. Raises as `require_open` does."""
        self.require_open()
        try:
            yield
        except HsmError as error:
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._closed_until = time.monotonic() + self._pause
            if isinstance(error, HsmPinRejected):
                self._rejected = str(error)
            raise
        self._pause = 0.0


class HsmPool:
    """All tokens of this process. Opening verifies everything the manifest pins; see `run` for the rest."""

    def __init__(self, config: HsmConfig, tokens: tuple[str, ...]) -> None:
        self._config, self._tokens = config, tokens
        self.manifest: Manifest = manifests.load(config.manifest_path)
        self._directory = RuntimeDirectory(config) if config.softhsm else None
        self._lock = SharedLock()
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._room = threading.BoundedSemaphore(_QUEUE)
        # Calls that have begun and were given up by their callers: each keeps one of our threads inside the module.
        self._overdue: set[Future[Any]] = set()
        self._library: ThreadedLibrary | None = None
        self._slots: Mapping[str, Any] = {}
        self._anchors: list[Any] = []
        self._generation = 0
        self._starts = Starts()
        self._pid, self._closed = os.getpid(), False
        try:
            # Before any thread: a pool that cannot verify its tokens never answers anybody.
            self._start()
        except BaseException:
            self._stop()
            self._remove_directory()
            raise
        self._workers = [
            threading.Thread(target=self._work, name=f"hsm-{n}", daemon=True) for n in range(config.threads)
        ]
        for worker in self._workers:
            worker.start()
        # SoftHSM's own exit handlers must not run beside a thread that is inside it.
        atexit.register(self.close)

    def run(
        self,
        token: str,
        operation: Callable[[TokenSession], T],
        *,
        opens: bool = False,
        once: bool = False,
        deadline_seconds: float | None = None,
    ) -> T:
        """Run `operation` on a session of `token` in one of the pool's threads and return its result.

        An operation that meets lost state is run once more after a re-initialisation, so it must be safe to
        repeat; with `once` the session is proved alive first and the operation itself is never repeated.
        Raises HsmUnavailable when full, late, or not to be mended; HsmPinRejected; HsmRefused, for an
        operation that `opens` a blob, when the token works and calls it bad; HsmError from a forked child.
        """
        # A child has the parent's sessions and, perhaps, its held locks: it could hang,
        # or use the parent's login (FAULTS H10).
        if self._pid != os.getpid():
            raise HsmError("the HSM was opened before fork(): open the tokens in the child")
        if self._closed:
            raise HsmError("the HSM has been closed")
        if not self._slots:
            self._starts.require_open()
        # With every thread inside a call that does not return, nobody is kept waiting for nothing: those who came first
        # found out, and whatever needs no HSM goes on at its usual pace (FAULTS H5).
        if len(self._overdue) >= self._config.threads:
            raise HsmUnavailable("the HSM does not return from its calls")
        # Given back when the job has ended, or was given up before it began: no more than these wait at a time, and all
        # others are refused at once.
        if not self._room.acquire(blocking=False):
            raise HsmUnavailable("the HSM has too much to do")
        job = _Job(token, operation, opens=opens, once=once)
        job.future.add_done_callback(lambda _: self._room.release())
        self._jobs.put(job)
        deadline = deadline_seconds or self._config.deadline_seconds
        try:
            return job.future.result(deadline)
        except TimeoutError:
            # What has not begun never will; what has begun ends unseen.
            if not job.future.cancel():
                self._overdue.add(job.future)
                job.future.add_done_callback(self._overdue.discard)
            raise HsmUnavailable(f"the HSM did not answer within {deadline:g} seconds") from None

    def refresh(self) -> bool:
        """Take over a newer manifest, as after a ceremony. Return whether there was one."""
        newer = manifests.load(self._config.manifest_path)
        if newer == self.manifest:
            return False
        # All over again: only a new copy has the ceremony's new keys, and only a fresh start checks them.
        self._restart(self._generation)
        return True

    def close(self) -> None:
        """Log out, finalise and remove the private copy. Tokens may be opened again afterwards."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        atexit.unregister(self.close)
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join(self._config.deadline_seconds)
        if any(worker.is_alive() for worker in self._workers):
            # C_Finalize beside a thread inside the library crashes the process.
            log.warning("an HSM call has not returned: the library stays initialised")
            return
        self._stop()
        self._remove_directory()

    # The threads.

    def _work(self) -> None:
        held = _Held({}, 0)
        while (job := self._jobs.get()) is not None:
            # Its caller has left. What nobody waits for must not be done, a re-wrap least of all.
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(self._do(job, held))
            except BaseException as error:  # noqa: BLE001  every failure belongs to the caller who waits
                job.future.set_exception(error)

    def _do(self, job: _Job[T], held: _Held) -> T:
        """Do one job; when the module lost its state, initialise it again and try once more."""
        try:
            return self._do_once(job, held)
        except _StateLost as lost:
            log.warning("the HSM lost its state (%s): initialising again", lost)
            self._restart(held.generation)
        try:
            return self._do_once(job, held)
        except _StateLost as lost:
            # Once. State that is lost again at once is not mended by trying, and everybody waits meanwhile.
            raise HsmUnavailable(f"the HSM lost its state twice: {lost}") from lost.__cause__

    def _do_once(self, job: _Job[T], held: _Held) -> T:
        with self._lock.shared():
            # Handles of before a restart may name other objects by now. Sessions are thrown away, never
            # repaired: after a lost login nothing of theirs can be told to be still the same.
            if held.generation != self._generation:
                held.sessions, held.generation = {}, self._generation
            return self._attempt(job, held.sessions)

    def _attempt(self, job: _Job[T], sessions: dict[str, TokenSession]) -> T:
        try:
            session = self._session(job.token, sessions)
            # What must not be repeated is preceded by a harmless look: state that was
            # lost before is then found without cost.
            if job.once and not session.alive():
                raise _StateLost("its keys are not to be seen")
        except ck.PKCS11Error as error:
            raise _StateLost(repr(error)) from error
        try:
            return job.operation(session)
        except HsmKeyMissing as error:
            # SoftHSM answers "no objects, OK" for a token that was taken away.
            raise _StateLost(str(error)) from error
        except ck.PKCS11Error as error:
            raise _translated(error, session, job) from error

    def _session(self, token: str, sessions: dict[str, TokenSession]) -> TokenSession:
        if token not in sessions:
            if token not in self._slots:
                raise _StateLost("it is not open")
            # Without a PIN: the login is the process's, and closing a session that had one would log out all
            # (HSM section 8, quirk 2). Read and write, since not every module has read-only sessions.
            opened = self._slots[token].open(rw=True, attribute_mapper=ArrayMapper())
            sessions[token] = TokenSession(opened, self.manifest.token(token))
        return sessions[token]

    # Starting, and starting again.

    def _restart(self, seen: int) -> None:
        """Initialise again unless another thread has; alone in the library, and not again too soon."""
        with self._lock.exclusive(self._config.deadline_seconds):
            # Another thread was first. All of them met the same loss, and one restart is enough.
            if self._generation != seen:
                return
            with self._starts.one():
                self._start()

    def _start(self) -> None:
        # Even when it fails: handles of before may come to name other sessions and keys.
        self._generation += 1
        for attempt in range(1, _START_TRIES + 1):
            self._stop()
            try:
                self._initialize()
                break
            except ck.PKCS11Error as error:
                if attempt == _START_TRIES:
                    raise HsmUnavailable(f"the HSM does not start: {error!r}") from error
                # 0.05 s, then 0.2 s: well within the deadline of whoever waits for this start.
                time.sleep(0.05 * 4**attempt / 4)
        log.info("HSM ready: %s", ", ".join(self._tokens))

    def _initialize(self) -> None:
        # A ceremony's commit replaces manifest and directory. In between, one would not be the other's.
        with locked(self._config.home, "commit", exclusive=False):
            self.manifest = manifests.load(self._config.manifest_path)
            self.manifest.check_module(self._config.module)
            if self._directory is not None:
                self._directory.fill(self._config, self.manifest, self._tokens)
                self._directory.activate()
        self._library = pkcs11.initialize(self._config.module)
        # By serial and not by label: a label can be given to any token, and a token initialised
        # again has another serial (FAULTS H15).
        present = {slot.serial: slot for slot in self._library.get_tokens()}
        slots = {}
        for name in self._tokens:
            record = self.manifest.token(name)
            try:
                slots[name] = present[record.serial.encode()]
            except KeyError:
                raise _missing(name, record, present) from None
            # One login for each token and process: its session is never closed, for that would log out all.
            with self._config.trying_pin(name):
                self._anchors.append(self._login(name, slots[name]))
            # At every start, also after a loss: what comes back need not be what went away (FAULTS H8).
            check_token(self._anchors[-1], record, token=name)
        # Last: until everything is checked there is no slot that an operation could use.
        self._slots = slots

    def _login(self, name: str, slot: Any) -> Any:
        pin = self._config.pin(name).read().reveal().decode()
        try:
            return slot.open(rw=True, user_pin=pin, attribute_mapper=ArrayMapper())
        except ck.PKCS11Error as error:
            if meaning(error) is Meaning.PIN_REJECTED:
                raise HsmPinRejected(f"the HSM refused the PIN of the token {name}: {error!r}") from error
            raise

    def _stop(self) -> None:
        self._slots, self._anchors = {}, []
        if self._library is not None:
            with suppress(HsmUnavailable):
                self._library.c_finalize()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            self._directory.remove()


def _missing(name: str, record: TokenRecord, present: Mapping[bytes, Any]) -> HsmError:
    if any(token.label == record.label for token in present.values()):
        return HsmKeyMismatch(
            f"the token {record.label} has another serial than the pinned {record.serial}: "
            "it was initialised again, or is another one"
        )
    return HsmUnavailable(f"the token {name} (serial {record.serial}) is not present")


def _translated(error: ck.PKCS11Error, session: TokenSession, job: _Job[Any]) -> Exception:
    means = meaning(error)
    if means is Meaning.AMBIGUOUS:
        # Asked of the token itself: a key that can still be seen means that the blob was bad (HSM section 6.3).
        means = Meaning.REFUSED if session.alive() else Meaning.STATE_LOST
    if means is Meaning.REFUSED and job.opens:
        # Never a reason to initialise again: whoever sends bad blobs would close the HSM for all.
        return HsmRefused("the HSM does not open this")
    # With `once` it may have been done before the state was lost, so it is reported and never repeated.
    if means is Meaning.STATE_LOST and not job.once:
        return _StateLost(repr(error))
    return HsmUnavailable(f"the HSM answered {error!r}")
