// SPDX-License-Identifier: Apache-2.0
/**
 * A session of two devices: begun by a handshake, carried by the ratchet, kept as secret bytes in between.
 *
 * docs/formats/handshake.md and ratchet.md. Does not store, send, look up keys or verify chains: its caller hands in
 * parties that it has verified. Calls of one session wait for each other; whoever opens one in two tabs holds a Web Lock.
 */
import { type Bytes, concat, EMPTY, equal } from "../base/bytes.js";
import { decode, encode, Fields, mapOf, MAX_VAULT } from "../base/encoding.js";
import { Untrusted, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { sha256Long } from "../crypto/hashing.js";
import { AgreementKey } from "../crypto/keys.js";
import { agreementKind, type Suite } from "../crypto/suites.js";
import type { Sign1 } from "../signed/cose.js";
import { HASH_SIZE, readSuite, VERSION } from "../signed/payloads.js";
import { Ratchet } from "./ratchet.js";
import { SkippedKeys } from "./skipped.js";
import { encodeInitial, Incoming, type InitialPart, MAX_MESSAGE, MESSAGE, PREFIX_SIZE, prefixOf, readMessage } from "./wire.js";
import {
  agreeAsInitiator, agreeAsResponder, type OwnPreKey, type Party, requireOneCurve, type VerifiedBundle,
} from "./x3dh.js";

/** Bytes of TH: a name in stores and logs. TH itself is what the messages are bound to. */
export const ID_SIZE = 16;
/** With padding and an initial part still within a message of 64 KiB. */
export const MAX_PLAINTEXT = 48 * 1024;
// Only a handshake brings a new ML-KEM secret: these bound how long, and for how many messages, a state that was read
// can be followed by who also breaks the DH steps.
/** As often as a new signed pre-key is made. */
export const HANDSHAKE_AFTER_SECONDS = 7 * 86_400;
/** Sent and received together. */
export const HANDSHAKE_AFTER_MESSAGES = 1000;

interface State {
  readonly suite: Suite;
  readonly transcript: Bytes;
  readonly createdAt: number;
  readonly isInitiator: boolean;
  readonly isLastResort: boolean;
  readonly initialHash: Bytes;
}

/** One end of a session: encrypts, decrypts, and says what must be known about it. */
export class Session {
  readonly suite: Suite;
  /** TH, 32 bytes; equal at both ends. */
  readonly transcript: Bytes;
  /** UTC seconds; put back to today by `pruneSessions` when it was begun under a clock that was ahead. */
  createdAt: number;
  readonly isInitiator: boolean;
  /** Whether it began without a one-time key. */
  readonly isLastResort: boolean;
  /** SHA-256 of the initial part. */
  readonly initialHash: Bytes;
  /** Messages of all chains. */
  sent: number;
  received: number;
  readonly #ratchet: Ratchet;
  readonly #prefix: Bytes;
  #initial: Bytes;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(state: State, ratchet: Ratchet, initial: Bytes, sent = 0, received = 0) {
    this.suite = state.suite;
    this.transcript = state.transcript;
    this.createdAt = state.createdAt;
    this.isInitiator = state.isInitiator;
    this.isLastResort = state.isLastResort;
    this.initialHash = state.initialHash;
    this.sent = sent;
    this.received = received;
    this.#ratchet = ratchet;
    this.#prefix = prefixOf(MESSAGE, state.suite);
    this.#initial = initial;
  }

  /**
   * Begin a session with the device of a verified bundle, in the bundle's suite.
   *
   * deviceStatement: of `me`, as signed. agreement: its private half. Rejects with Untrusted when the two devices cannot
   * have a session or the bundle is another device's; Malformed for a key that gives no secret; a RangeError when `me` is
   * not what the statement or the key says (the caller's mistake).
   */
  static async initiate(of: {
    me: Party;
    deviceStatement: Sign1;
    agreement: AgreementKey;
    peer: Party;
    bundle: VerifiedBundle;
    now: number;
  }): Promise<Session> {
    const { me, peer, bundle, agreement } = of, { suite } = bundle.device;
    // The caller's mistakes first, then what the server could have mixed up; all of it before a secret exists.
    me.requireOwn(agreement);
    if (!equal(of.deviceStatement.payload, me.statement))
      throw new RangeError("the signed device statement is not this device's");
    // Both are verified, and could be of two devices: DH1 and DH3 would then be with one, DH2 and TH with the other.
    if (!equal(bundle.deviceBytes, peer.statement))
      throw new Untrusted("the bundle is of another device than the peer");
    requireOneCurve(suite, me, peer);
    // Fresh for each session: a second session with the same EK and no one-time key would have the same DHs.
    const ephemeral = await AgreementKey.generate(agreementKind(suite));
    const [agreed, ciphertext] = await agreeAsInitiator({ me, agreement, ephemeral, peer, bundle });
    const initial = encodeInitial({
      suite,
      deviceStatement: of.deviceStatement,
      ephemeral: ephemeral.public,
      signedPreKeyId: bundle.signedPreKey.keyId,
      oneTimePreKeyId: bundle.oneTime?.keyId,
      ciphertext,
      initiatorHead: me.head,
      responderHead: peer.head,
    });
    // TH is the AD of every message, as X3DH section 3.3 has it: it covers both identities and all keys.
    const ratchet = await Ratchet.initiator({ ...agreed, ad: agreed.transcript }, bundle.signedPreKey.dh);
    const state: State = {
      suite,
      transcript: agreed.transcript,
      createdAt: of.now,
      isInitiator: true,
      isLastResort: bundle.oneTime === undefined,
      initialHash: await sha256Long(initial),
    };
    return new Session(state, ratchet, initial);
  }

  /**
   * Return the session that an initial message begins, and its plaintext; neither exists unless it opens.
   *
   * initiator: the sender, verified through its own account chain at the head that the message names; me: this device at
   * the head of its chain that the message names. On success the caller deletes the one-time key's private half in the
   * transaction that stores the session, or keeps `transcript` in the seen-set where there was none. Rejects with
   * Malformed, Untrusted; UnwrapFailed when it does not open.
   */
  static async respond(
    incoming: Incoming,
    of: {
      me: Party;
      agreement: AgreementKey;
      initiator: Party;
      signed: OwnPreKey;
      oneTime: OwnPreKey | undefined;
      now: number;
    },
  ): Promise<[session: Session, plaintext: Bytes]> {
    const { me, agreement, initiator, signed, oneTime } = of, { initial, initialHash } = incoming;
    if (initial === undefined || initialHash === undefined) throw new Untrusted("this message begins no session");
    me.requireOwn(agreement);
    // Before any DH: private keys are not used for a message that names other keys, heads or devices.
    requireMatch(initial, me, initiator, signed, oneTime);
    const { ephemeral, ciphertext } = initial;
    const agreed = await agreeAsResponder({ me, agreement, initiator, ephemeral, signed, oneTime, ciphertext });
    const ratchet = Ratchet.responder({ ...agreed, ad: agreed.transcript }, signed.dh);
    // The first proof that the sender holds IDK_A and EK: all before it was a claim that anybody could copy.
    const plaintext = await ratchet.decrypt(concat(incoming.prefix, incoming.sealed), of.now);
    const state: State = {
      suite: initial.suite,
      transcript: agreed.transcript,
      createdAt: of.now,
      isInitiator: false,
      isLastResort: oneTime === undefined,
      initialHash,
    };
    return [new Session(state, ratchet, EMPTY, 0, 1), plaintext];
  }

  /** The first 16 bytes of TH. */
  get id(): Bytes {
    return this.transcript.slice(0, ID_SIZE);
  }

  /** Whether the initiator was answered; a responder knows from the first message. */
  get isConfirmed(): boolean {
    return this.#initial.length === 0;
  }

  /** Whether `skippedToSecret` has to be stored again, since it was made, restored or marked as kept. */
  get isSkippedChanged(): boolean {
    return this.#ratchet.skipped.isChanged;
  }

  /** Whether it is time for a new session: after 7 days or 1,000 messages, for post-quantum healing. */
  needsHandshake(now: number): boolean {
    // What a clock that was ahead began in the future is due as well, or it would be sent on in until then.
    const isAged = Math.abs(now - this.createdAt) >= HANDSHAKE_AFTER_SECONDS;
    return isAged || this.sent + this.received >= HANDSHAKE_AFTER_MESSAGES;
  }

  /** Do one thing at a time: a step waits for WebCrypto, and a second one would meet the state half made. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /**
   * Return the whole message for at most 48 KiB of plaintext; with the initial part until one was received.
   *
   * Store `toSecret` before the bytes leave. Rejects with a RangeError above 48 KiB (the caller's mistake: larger content
   * goes by reference) and OutOfBounds when the chain is at its end.
   */
  encrypt(plaintext: Uint8Array): Promise<Bytes> {
    if (plaintext.length > MAX_PLAINTEXT)
      return Promise.reject(new RangeError("more than a message holds: send a reference"));
    return this.#inTurn(async () => {
      // The initial part again and again, since any of the first messages may be the one that arrives.
      const lead = this.#initial.length > 0 ? this.#initial : this.#prefix;
      const sealed = await this.#ratchet.encrypt(plaintext, lead.slice(0, PREFIX_SIZE));
      this.sent += 1;
      return concat(lead, sealed);
    });
  }

  /**
   * Return the plaintext of a message of this session, and forget its key.
   *
   * now: UTC seconds, from which keys that are stored for missing messages count. Store the state in the transaction that
   * stores the plaintext. Rejects with UnwrapFailed for everything that is not this session's next or skipped message,
   * without saying which, and Malformed for what is no message; the state is unchanged then.
   */
  decrypt(message: Uint8Array | Incoming, now: number): Promise<Bytes> {
    return this.#inTurn(async () => {
      const plaintext = await this.#ratchet.decrypt(this.#own(message), now);
      // An answer that opens is what tells the initiator that the peer has the session. Before it, a forged one would end
      // the repeating, and the peer could never begin.
      this.received += 1;
      this.#initial = EMPTY;
      return plaintext;
    });
  }

  /** Return prefix || enc_header || body of a message that can be this session's. */
  #own(message: Uint8Array | Incoming): Uint8Array {
    if (message instanceof Uint8Array) {
      // What nearly every message is. Equality of all four bytes checks version, type, suite and flags at once.
      if (message.length <= MAX_MESSAGE && equal(message.subarray(0, PREFIX_SIZE), this.#prefix)) return message;
      message = readMessage(message);
    }
    // The responder's part alone: an initiator's own message sent back to it opens nothing. Another hash is another
    // handshake, even where the keys are the same.
    const isOurs = message.isInitial
      ? !this.isInitiator && equal(message.initialHash as Bytes, this.initialHash)
      : equal(message.prefix, this.#prefix);
    if (!isOurs) throw new UnwrapFailed("message does not open");
    return concat(message.prefix, message.sealed);
  }

  /** Drop skipped keys stored 30 days ago or longer. now: a time to rely on, for nothing brings them back. */
  expire(now: number): void {
    this.#ratchet.skipped.expire(now);
  }

  /** Return the state without the skipped keys, as dCBOR for an encrypted store. docs/formats/ratchet.md. */
  toSecret(): SecretBytes {
    return new SecretBytes(
      encode(
        mapOf({
          1: VERSION,
          2: this.suite,
          3: this.transcript,
          4: this.createdAt,
          5: Number(this.isInitiator),
          6: Number(this.isLastResort),
          7: this.initialHash,
          8: this.#initial,
          9: this.sent,
          10: this.received,
          11: this.#ratchet.toValue(),
        }),
      ),
    );
  }

  /** Undo `toSecret`; `restoreSkipped` brings the rest. Throws Malformed. */
  static fromSecret(secret: SecretBytes): Session {
    const fields = Fields.of(decode(secret.reveal(), MAX_VAULT), "session", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    if (fields.uint(1) !== VERSION) throw fields.refuse(1, "is not version 1");
    const suite = readSuite(fields, 2), transcript = fields.octets(3, HASH_SIZE);
    const ratchet = Ratchet.fromValue(fields.value(11), agreementKind(suite), transcript);
    const initialHash = fields.octets(7, HASH_SIZE), initial = fields.octets(8);
    const isInitiator = fields.flag(5), isLastResort = fields.flag(6), createdAt = fields.uint(4);
    const state: State = { suite, transcript, createdAt, isInitiator, isLastResort, initialHash };
    return new Session(state, ratchet, initial, fields.uint(9), fields.uint(10));
  }

  /** Return the skipped keys, 44 bytes each at most 2,000 of them, to be stored apart from the state. */
  skippedToSecret(): SecretBytes {
    return this.#ratchet.skipped.toSecret();
  }

  /** Bring back what `skippedToSecret` gave, before anything is decrypted. Throws Malformed. */
  restoreSkipped(secret: SecretBytes): void {
    this.#ratchet.skipped = SkippedKeys.fromSecret(secret);
  }

  /** Say that the skipped keys are durably stored as they are now: `isSkippedChanged` begins anew. */
  markSkippedKept(): void {
    this.#ratchet.skipped.isChanged = false;
  }
}

/** Throw Untrusted unless the verified parties and the keys at hand are the ones that the message names. */
function requireMatch(
  initial: InitialPart,
  me: Party,
  initiator: Party,
  signed: OwnPreKey,
  oneTime: OwnPreKey | undefined,
): void {
  // TH would differ for each of these too, and nothing would open. Checked here so that the caller learns why, and no
  // private key is touched: none of it is a secret.
  if (initial.suite !== me.device.suite) throw new Untrusted("the message is of another suite than this device");
  requireOneCurve(initial.suite, me, initiator);
  if (!equal(initial.deviceStatement.payload, initiator.statement))
    throw new Untrusted("the message carries another device statement than its sender's");
  if (!equal(initial.initiatorHead, initiator.head) || !equal(initial.responderHead, me.head))
    throw new Untrusted("the message names other chain heads");
  if (initial.signedPreKeyId !== signed.keyId) throw new Untrusted("the message names another signed pre-key");
  // Never without it: a caller that gave up DH4 for a used key would let a replayed message begin a session.
  if (initial.oneTimePreKeyId !== oneTime?.keyId)
    throw new Untrusted("the message names a one-time pre-key that is not here");
}
