// SPDX-License-Identifier: Apache-2.0
/**
 * The client's refusals: one class for each reaction that a caller, or the person at the screen, can have.
 *
 * Whose matter it is decides the class, and with it the advice:
 *
 *     WrongInput            what was typed or given: correct it
 *     NotPossible           what was asked does not go with how things stand: ask for something else
 *     ProfileError          the profile: none, not enrolled, damaged, cleared away by the browser
 *     MachineError          this machine: its browser keeps nothing, or has no room left
 *     Unreachable           the network: no answer came
 *     Problem               the server: it refused and said why
 *     AnswerRefused         the server, or what stands before it: an answer outside the protocol
 *     RaceLost              another device or page of the same person was first: do it again
 *     ServerReadOnly NotYet time, or a person's yes
 *     ConsentNeeded
 *     WrongWords
 *     TrustRefused          what other people signed, or the server claims of it: an attack, or to be looked into
 *
 * A slip of one's own is never announced as an attack, and no attack as a slip: where the bytes cannot tell, the sentence
 * names both. RFC 9457 on the receiving side. Refusals of signed bytes stay those of `core/base/errors`. Does not print:
 * every error carries a sentence for people and, where there is one, the way out.
 */
import { Expired } from "../core/base/errors.js";

const CLOCK = "First look whether this machine's date and time are right.";
const DISTRUST = "Nothing of it was believed or kept. Try again later; if this goes on, tell your officers.";
const AGAIN = "Another of your devices, or another person, was first. Try again.";

// What a person can do about a problem code. A code without a line here has its detail only.
const WAYS_OUT: ReadonlyMap<string, string> = new Map([
  ["unauthenticated", "Check this machine's clock, and that the address is your server's."],
  [
    "device-revoked",
    "If it was not you, tell your officers, and look on another device of yours: client.devices.all(). To go on here, " +
      "begin in another profile, with a fresh code: Client.enrol().",
  ],
  ["access-suspended", "Ask your officers or the owner of your organisation. Your keys stay on this device."],
  ["enrolment-refused", "Ask an officer for a fresh enrolment code: a code works once and expires."],
  ["idempotency-key-reused", "Try again."],
  ["escrow-paused", "Keep your devices: they deposit by themselves once officers are back. What is in escrow stays."],
  ["hsm-unavailable", "Nothing was done. Try again in a minute; your operator sees the alarm."],
  ["too-few-officers", "Too few officers may approve this case. Ask your tenant's owner to appoint officers."],
  ["escrow-off", "Your organisation's escrow is not set up yet: ask its officers."],
  ["escrow-ended", "Nothing is lost: what is deposited stays. Tell your officers to sign a new policy."],
  ["tenant-locked", "An owner of your organisation has locked it, and ends that: ask them."],
  ["mailbox-full", "Wait until the other device has fetched its messages, and try again."],
  ["words-changed", "Read anew what would be done: ask again."],
  ["one-time-code-refused", "Wait for your authenticator's next code, and give that one."],
  ["step-up-refused", "Wait for your authenticator's next code, and give that one."],
  ["audit-unavailable", "Nothing was done. Try again in a minute; if this goes on, tell your operator."],
  ["unavailable", "Nothing was done. Try again in a minute; if this goes on, tell your operator."],
  ["internal", "Try again in a minute; if this goes on, tell your operator when it happened."],
  ["record-unreadable", "Tell your operator: a stored record has to be looked at."],
  ["log-broken", "Tell your operator, your officers and your auditor."],
  [
    "log-restored",
    "Nothing is lost. Your officers accept what was put back (holdfast officer resolve accept-log), your operator goes " +
      "on, and everything goes out by itself.",
  ],
  ["denied", "Your role does not allow this. Ask the owner of your tenant."],
  ["not-found", "Check the id: what belongs to others is not shown as existing."],
]);

// Another device of the same person, or another officer, wrote first: the same act reads that and goes on.
const RACES: ReadonlySet<string> = new Set([
  "chain-stale",
  "conflict",
  "contacts-stale",
  "officer-keys-stale",
  "policy-stale",
  "pre-key-stale",
  "successor-stale",
  "vault-stale",
]);

/** What goes with a refusal: what a person can do, and the error it came of. */
export interface Advice {
  readonly wayOut?: string;
  readonly cause?: unknown;
}

/** Root of the client's refusals. */
export class ClientError extends Error {
  readonly #wayOut: string;

  constructor(message: string, { wayOut = "", cause }: Advice = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.#wayOut = wayOut;
  }

  // Written out in each class: a bundler that makes code small gives classes other names.
  override get name(): string {
    return "ClientError";
  }

  /** What a person can do, or nothing. */
  get wayOut(): string {
    return this.#wayOut;
  }
}

/** What a server says with a refusal. */
export interface Said {
  /** The HTTP status. */
  readonly status: number;
  /** Stable, listed in docs/problems.md. */
  readonly code: string;
  readonly detail: string;
  /** What is at fault: pairs of field and detail. */
  readonly errors?: readonly (readonly [field: string, detail: string])[];
  readonly wayOut?: string;
  /** Seconds that the server asks to wait, 0 when it asks for none. */
  readonly retryAfter?: number;
}

/** The server refused a request and said why (RFC 9457). */
export class Problem extends ClientError {
  override get name(): string {
    return "Problem";
  }

  readonly status: number;
  readonly code: string;
  readonly errors: readonly (readonly [field: string, detail: string])[];
  readonly retryAfter: number;

  constructor({ status, code, detail, errors = [], wayOut = "", retryAfter = 0 }: Said) {
    super(detail, { wayOut: wayOut || (WAYS_OUT.get(code) ?? (RACES.has(code) ? AGAIN : "")) });
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  /** The first field at fault, or "" when the problem is not about one. */
  get field(): string {
    return this.errors[0]?.[0] ?? "";
  }

  /** Whether somebody was only faster: the same act, done again, may pass. */
  get isRaceLost(): boolean {
    return RACES.has(this.code);
  }
}

/**
 * The server found that a backup was put back, and changes nothing until officers have accepted that.
 *
 * Nothing was done, and what waits to be sent goes on waiting. Asking again at once changes nothing.
 */
export class ServerReadOnly extends Problem {
  override get name(): string {
    return "ServerReadOnly";
  }
}

/** What was typed or given cannot be used: a name, an id, a date, a file of another kind. Correcting it helps. */
export class WrongInput extends ClientError {
  override get name(): string {
    return "WrongInput";
  }
}

/** A password or a phrase does not open what it was typed for. */
export class WrongSecret extends WrongInput {
  override get name(): string {
    return "WrongSecret";
  }
}

/**
 * What was asked does not go with how things stand: there is no such thing, or it has ended, or it is not theirs.
 *
 * Nothing is broken, and asking again changes nothing.
 */
export class NotPossible extends ClientError {
  override get name(): string {
    return "NotPossible";
  }
}

/** This machine does not do its part: its browser keeps nothing for this page, or has no room left. */
export class MachineError extends ClientError {
  override get name(): string {
    return "MachineError";
  }
}

/** No answer came: the address is wrong, the server is down, or the network is. Retrying is safe. */
export class Unreachable extends ClientError {
  override get name(): string {
    return "Unreachable";
  }
}

/** Whoever answers at the address does not prove to be the server. A browser tells no page so: nothing here throws it. */
export class NotTheServer extends Unreachable {
  override get name(): string {
    return "NotTheServer";
  }
}

/** Another device or another page of the same person was first. Done again, it goes on from what that one did. */
export class RaceLost extends ClientError {
  override get name(): string {
    return "RaceLost";
  }

  constructor(message: string, { wayOut = "", cause }: Advice = {}) {
    super(message, { wayOut: wayOut || "Try again.", cause });
  }
}

/** The server, or what stands before it, answered with something outside the protocol. Nothing of it was kept. */
export class AnswerRefused extends ClientError {
  override get name(): string {
    return "AnswerRefused";
  }

  constructor(message: string, { wayOut = "", cause }: Advice = {}) {
    super(message, { wayOut: wayOut || "Update this program; if this goes on, tell your operator.", cause });
  }
}

/** The profile in this browser cannot be used: none, damaged, not enrolled, or cleared away. */
export class ProfileError extends ClientError {
  override get name(): string {
    return "ProfileError";
  }
}

/** Another page holds the profile, and has not let go of it in the time that was waited. Trying again is safe. */
export class ProfileBusy extends ProfileError {
  override get name(): string {
    return "ProfileBusy";
  }
}

/** The passphrase does not open this profile, or the file that it was exported to. */
export class WrongPassphrase extends ProfileError {
  override get name(): string {
    return "WrongPassphrase";
  }
}

/** A newer version of this program wrote what is to be read. It is whole: this program is to be updated. */
export class UpdateNeeded extends ProfileError {
  override get name(): string {
    return "UpdateNeeded";
  }

  constructor(what = "this profile", { cause }: Advice = {}) {
    super(`A newer version of Holdfast wrote ${what}. Nothing is damaged.`, {
      wayOut: "Load this page again, so that the newest program runs in it, and try again.",
      cause,
    });
  }
}

/** Signed things that should follow from what is pinned do not. An attack, or a mistake to be looked into. */
export class TrustRefused extends ClientError {
  override get name(): string {
    return "TrustRefused";
  }

  constructor(message: string, { wayOut = "", cause }: Advice = {}) {
    super(message, { wayOut: wayOut || DISTRUST, cause });
  }

  /** What a person can do. Of what is outside its time, their own clock is the likeliest cause. */
  override get wayOut(): string {
    return this.cause instanceof Expired ? `${CLOCK} ${super.wayOut}` : super.wayOut;
  }
}

/** The way out of a log that is not the one shown before. */
export const RESTORED =
  "If a backup was put back, nothing is lost: your officers accept that (holdfast officer resolve accept-log), your " +
  "operator goes on, and your devices give back what the server lacks. If nobody put one back, somebody is shown " +
  "another log than you: show this to your officers and your auditor, and go on with nothing of it.";

/**
 * The server's log is not the one it has shown before: a backup was put back, or it shows two histories.
 *
 * Which of both, only the officers can say. Both signed heads are kept as evidence, and the server was shown what it
 * lacks, by which it stops.
 */
export class ServerRestored extends TrustRefused {
  override get name(): string {
    return "ServerRestored";
  }
}

/** A contact's account was begun again: to this client they are another person until a human confirms. */
export class PeerChanged extends TrustRefused {
  override get name(): string {
    return "PeerChanged";
  }
}

/** An e-mail address names another person than the one it was pinned to, or nobody: a human has to say who. */
export class AddressChanged extends TrustRefused {
  override get name(): string {
    return "AddressChanged";
  }
}

/** The act needs the person's own yes, which only they can give. */
export class ConsentNeeded extends ClientError {
  override get name(): string {
    return "ConsentNeeded";
  }
}

/** The words typed are not those of the recipient's key: stop, and speak to the person again. */
export class WrongWords extends ClientError {
  override get name(): string {
    return "WrongWords";
  }
}

/** Words were not typed, or those of other places than asked for. */
export class WordsNeeded extends WrongWords {
  override get name(): string {
    return "WordsNeeded";
  }

  /** 1 to 8, where they are asked for. */
  readonly places: readonly number[];

  constructor(message: string, { places, ...advice }: Advice & { readonly places: readonly number[] }) {
    super(message, advice);
    this.places = [...places];
  }
}

/** The thing is under way and not due: officers are still to answer, or the delay runs. */
export class NotYet extends ClientError {
  override get name(): string {
    return "NotYet";
  }
}

/** Return the refusal of a profile that does not read or open. error: why, for a person to pass on. */
export function damaged(error: unknown): ProfileError {
  const why = error instanceof Error ? error.message : String(error);
  return new ProfileError(`The profile is damaged (${why}).`, {
    wayOut: "Recover the account (client.recover), or import an export of it.",
    ...(error instanceof Error ? { cause: error } : {}),
  });
}
