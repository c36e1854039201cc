// SPDX-License-Identifier: Apache-2.0
/**
 * The first secret of a session: X3DH, and its hybrid form with ML-KEM-768 (docs/formats/handshake.md).
 *
 * Verifies nothing: every key comes here from a verified bundle or a verified statement. Encrypts nothing: `ratchet`
 * does. X3DH section 3; PQXDH section 3.
 */
import { type Bytes, concat, EMPTY, equal } from "../base/bytes.js";
import { encode, label } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { hkdf, sha256Long } from "../crypto/hashing.js";
import { type AgreementKey, encapsulate, type KemKey, type PublicKey } from "../crypto/keys.js";
import { agreementKind, type Suite } from "../crypto/suites.js";
import { type DeviceStatement, deviceToPayload } from "../signed/statements.js";
import type { OneTimePreKey, SignedPreKey } from "./prekeys.js";

const SALT = new Uint8Array(32); // bytes: X3DH section 2.2, zeros as long as the hash; what separates uses is in info
// X3DH's F: for these bytes no X25519 or P-256 secret stands, so KM collides with no input of another use.
const FILLER = new Uint8Array(32).fill(0xff);

/** One end of a session, as both ends see it. */
export class Party {
  /**
   * statement: the exact payload of its device statement. head: the 32-byte head of its account chain. aik: the account
   * identity key in force there. Throws a RangeError when `device` is not what `statement` says (the caller's mistake).
   */
  constructor(
    readonly statement: Bytes,
    readonly device: DeviceStatement,
    readonly aik: PublicKey,
    readonly head: Bytes,
  ) {
    // The transcript takes the bytes and the DHs take the keys: if the two could differ, TH would vouch for other keys.
    if (!equal(deviceToPayload(device), statement))
      throw new RangeError("a party's device statement is another than its bytes");
  }

  /** Throw a RangeError unless `agreement` is this device's own identity agreement key. */
  requireOwn(agreement: AgreementKey): void {
    if (!agreement.public.equals(this.device.agreementKey))
      throw new RangeError("the agreement key is not this device's");
  }
}

/** What a bundle gives a handshake once every signature of it holds. Made by `verifyBundle` only. */
export interface VerifiedBundle {
  readonly device: DeviceStatement;
  readonly signedPreKey: SignedPreKey;
  readonly oneTime: OneTimePreKey | undefined;
  /** What was signed, as the transcript takes it: the payloads, and `oneTimeStatement` or none. */
  readonly deviceBytes: Bytes;
  readonly signedPreKeyBytes: Bytes;
  readonly oneTimeBytes: Bytes;
}

/** The private half of a pre-key, and the signed bytes that it was published under. */
export interface OwnPreKey {
  readonly keyId: number;
  readonly dh: AgreementKey;
  readonly kem: KemKey | undefined;
  /** The payload of the signed pre-key, or `oneTimeStatement` of a one-time key. */
  readonly statement: Bytes;
}

/** What both ends derive: TH of 32 bytes, and three keys of 32 bytes. header is HK_A, nextHeader is NHK_B. */
export interface Agreement {
  readonly transcript: Bytes;
  readonly root: SecretBytes;
  readonly header: SecretBytes;
  readonly nextHeader: SecretBytes;
}

/** Throw Untrusted unless two different devices of one tenant have keys that `suite` lets agree. */
export function requireOneCurve(suite: Suite, party: Party, other: Party): void {
  if (!equal(party.device.header.tenant, other.device.header.tenant))
    throw new Untrusted("a session joins two devices of one tenant");
  // With itself, a device would hold both ends of one session: what it sent could be given back to it as received.
  if (equal(party.device.header.device, other.device.header.device) || equal(party.statement, other.statement))
    throw new Untrusted("a session joins two devices");
  const kind = agreementKind(suite);
  if (party.device.agreementKey.kind !== kind || other.device.agreementKey.kind !== kind)
    throw new Untrusted("the two devices' suites use different curves");
}

interface Seen {
  readonly initiator: Party;
  readonly responder: Party;
  readonly ephemeral: PublicKey;
  readonly signed: Bytes;
  readonly oneTime: Bytes;
  readonly ciphertext: Bytes;
}

function transcriptOf(suite: Suite, seen: Seen): Promise<Bytes> {
  // All that either end relies on, as it was signed or sent. X3DH's AD has the two identity keys only; the rest stops
  // what the specification leaves to the application: whose account the keys are of, a change of suite, an EK shifted by
  // a point of small order, and PQXDH's re-encapsulation. The heads fix devices, rotations and the rest of both
  // accounts' histories: two ends that were shown different ones get different keys.
  const { initiator, responder } = seen;
  return sha256Long(
    encode([
      "holdfast/v1", "x3dh", suite, initiator.statement, responder.statement, seen.ephemeral.encoded, seen.signed,
      seen.oneTime, seen.ciphertext, initiator.aik.encoded, initiator.head, responder.aik.encoded, responder.head,
    ]),
  );
}

function derive(suite: Suite, transcript: Bytes, secrets: readonly SecretBytes[]): Agreement {
  // KM = F || DH1 || DH2 || DH3 || [DH4] || [SS]. All parts are 32 bytes, so joining is unambiguous; which of DH4 and SS
  // are there, TH tells. TH stands in the derivation itself: ends that disagree about it share no key at all.
  const ikm = new SecretBytes(concat(FILLER, ...secrets.map((secret) => secret.reveal())));
  const okm = hkdf({ salt: SALT, ikm, info: label("x3dh", suite, transcript), length: 96 }).reveal();
  ikm.forget();
  // The header keys come from here too: the first header is sealed before any ratchet step could give one.
  const [root, header, nextHeader] = [0, 32, 64].map((at) => new SecretBytes(okm.slice(at, at + 32)));
  return { transcript, root: root as SecretBytes, header: header as SecretBytes, nextHeader: nextHeader as SecretBytes };
}

/**
 * Return what is agreed, and the ML-KEM ciphertext of 1,088 bytes in suites 2 and 4.
 *
 * ephemeral: EK, fresh and used once. Rejects with Malformed for a key that gives no secret (the peer's doing).
 */
export async function agreeAsInitiator(of: {
  me: Party;
  agreement: AgreementKey;
  ephemeral: AgreementKey;
  peer: Party;
  bundle: VerifiedBundle;
}): Promise<[agreed: Agreement, ciphertext: Bytes | undefined]> {
  const { me, agreement, ephemeral, peer, bundle } = of;
  const { suite } = bundle.device, { signedPreKey: signed, oneTime } = bundle;
  // X3DH section 3.3: DH1 and DH2 authenticate the two ends to each other, DH3 and DH4 give forward secrecy.
  const secrets = [
    await agreement.exchange(signed.dh),
    await ephemeral.exchange(peer.device.agreementKey),
    await ephemeral.exchange(signed.dh),
  ];
  // B destroys the one-time key once the first message has opened: a replayed one finds no key.
  if (oneTime !== undefined) secrets.push(await ephemeral.exchange(oneTime.dh));
  // PQXDH section 3.3: the one-time KEM key where there is one, else the last resort, which is SPK's own. SS keeps what
  // is recorded today from a quantum computer of later; it authenticates nobody.
  const kem = oneTime === undefined ? signed.kem : oneTime.kem;
  let ciphertext: Bytes | undefined;
  if (kem !== undefined) {
    const [sent, shared] = await encapsulate(kem);
    ciphertext = sent;
    secrets.push(shared);
  }
  const transcript = await transcriptOf(suite, {
    initiator: me,
    responder: peer,
    ephemeral: ephemeral.public,
    signed: bundle.signedPreKeyBytes,
    oneTime: bundle.oneTimeBytes,
    ciphertext: ciphertext ?? EMPTY,
  });
  return [derive(suite, transcript, secrets), ciphertext];
}

/**
 * Return what is agreed with the initiator, if both saw the same keys: only the first message tells.
 *
 * Rejects with Malformed for an EK that gives no secret, or a ciphertext that does not fit the pre-key.
 */
export async function agreeAsResponder(of: {
  me: Party;
  agreement: AgreementKey;
  initiator: Party;
  ephemeral: PublicKey;
  signed: OwnPreKey;
  oneTime: OwnPreKey | undefined;
  ciphertext: Bytes | undefined;
}): Promise<Agreement> {
  const { me, agreement, initiator, ephemeral, signed, oneTime, ciphertext } = of;
  // Its own suite, not the message's: `session` has compared them. The order of the secrets is the initiator's.
  const { suite } = me.device;
  const secrets = [
    await signed.dh.exchange(initiator.device.agreementKey),
    await agreement.exchange(ephemeral),
    await signed.dh.exchange(ephemeral),
  ];
  // The one-time key is not destroyed here: junk could then use up the keys of others.
  if (oneTime !== undefined) secrets.push(await oneTime.dh.exchange(ephemeral));
  const kem = oneTime === undefined ? signed.kem : oneTime.kem;
  // Never go on without SS where the suite has it: that would be the downgrade which the suite byte rules out.
  if ((kem === undefined) !== (ciphertext === undefined))
    throw new Malformed("the handshake's ciphertext does not fit the pre-key");
  // A tampered ct gives an unrelated secret and no error (FIPS 203 implicit rejection); the message does not open.
  if (kem !== undefined && ciphertext !== undefined) secrets.push(await kem.decapsulate(ciphertext));
  const transcript = await transcriptOf(suite, {
    initiator,
    responder: me,
    ephemeral,
    signed: signed.statement,
    oneTime: oneTime?.statement ?? EMPTY,
    ciphertext: ciphertext ?? EMPTY,
  });
  return derive(suite, transcript, secrets);
}
