// SPDX-License-Identifier: Apache-2.0
/**
 * The phrase door: a blob that gives the vault key VK to whoever has the 24 words, and the key they sign with.
 *
 * docs/formats/doors.md "Phrase". Does not read words: `phrase` does. Does not decide when a phrase counts: its owner
 * confirms it first.
 */
import { type Bytes, concat } from "../base/bytes.js";
import { type Encodable, Fields, label, mapOf } from "../base/encoding.js";
import { Unusable } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { hkdf, sha256 } from "../crypto/hashing.js";
import { SigningKey, type SigningKind } from "../crypto/keys.js";
import { type Language, LANGUAGES, type Phrase } from "../crypto/phrase.js";
import { type Argon2Cost, canonical, DEFAULT_COST, readings, SALT_SIZE, Stretching } from "../crypto/stretching.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { CommittedKey } from "../crypto/wrapping.js";
import type { Section } from "./blob.js";
import { Door, DoorHead, doorKind, type DoorOwner } from "./door_blob.js";

/** Field 2 of the blob: one kind's door is never tried as another's. */
export const KIND = "phrase";
// Bytes: 256 bits and 128 more, so that reducing to a P-256 scalar shows no bias. FIPS 186-5 appendix A.2.1.
const SIGNING_SIZE = 48;

/** Field 3: {1: salt, 2: language, 3: how the passphrase is stretched, when there is one}. */
class Method {
  constructor(
    readonly salt: Bytes,
    readonly language: Language,
    readonly stretching: Stretching | undefined,
  ) {}

  toMap(): Map<number, Encodable> {
    return mapOf({ 1: this.salt, 2: this.language, 3: this.stretching?.toMap() });
  }

  static of(door: Door): Method {
    const read = Fields.of(door.method, "phrase door, field 3", [1, 2], [3]);
    const language = LANGUAGES.find((one) => one === read.text(2));
    if (language === undefined) throw read.refuse(2, "is not a language of BIP-39");
    const stretching = read.has(3) ? Stretching.fromMap(read.value(3), "phrase door, field 3.3") : undefined;
    return new Method(read.octets(1, SALT_SIZE), language, stretching);
  }

  async key(phrase: Phrase, reading: SecretBytes | undefined, owner: DoorOwner): Promise<CommittedKey> {
    // The entropy and not BIP-39's seed: 256 random bits need no stretching.
    const stretched =
      reading !== undefined && this.stretching !== undefined ? [(await this.stretching.stretch(reading)).reveal()] : [];
    const ikm = new SecretBytes(concat(phrase.entropy.reveal(), ...stretched));
    // Epoch and method are bound by the aad. The owner is here too: one phrase used for two accounts gives two keys.
    // 64 of the 96 bytes that version 1 derives, of which it does not use the rest: HKDF's output is the same.
    return CommittedKey.derive({ salt: this.salt, ikm, info: label(doorKind(owner, KIND), owner.tenant, owner.user) });
  }
}

function chosen(passphrase: string | undefined): SecretBytes | undefined {
  if (passphrase === undefined) return undefined;
  const made = canonical(passphrase);
  // Nothing typed is no passphrase: undefined says so, and the door then does not ask for one.
  if (made.length === 0) throw new Unusable("a passphrase is not empty");
  return made;
}

/**
 * Wrap the 32-byte vault key under a phrase, and a passphrase beside it if one is given.
 *
 * Rejects with Unusable for an empty or unreadable passphrase; a RangeError for a vault key of another length.
 */
export async function sealPhraseDoor(
  vaultKey: SecretBytes,
  phrase: Phrase,
  owner: DoorOwner,
  of: { passphrase?: string | undefined; cost?: Argon2Cost } = {},
): Promise<Bytes> {
  const reading = chosen(of.passphrase);
  const stretching = reading === undefined ? undefined : Stretching.fresh(of.cost ?? DEFAULT_COST);
  // A salt of its own beside the passphrase's: the phrase's key does not rest on whether there is one.
  const method = new Method(randomBytes(SALT_SIZE), phrase.language, stretching);
  const head = new DoorHead(doorKind(owner, KIND), method.toMap(), owner);
  return head.seal(vaultKey, await method.key(phrase, reading, owner));
}

/**
 * Return the 32-byte vault key.
 *
 * A passphrase given to a door that has none is not used. Rejects with Malformed for bytes outside the format and
 * OutOfBounds for an Argon2 cost outside the bounds, both before hashing; UnwrapFailed for another phrase, a wrong or
 * missing passphrase, tampering, or another owner's door; Unusable for what can be no passphrase.
 */
export async function openPhraseDoor(
  blob: Uint8Array,
  phrase: Phrase,
  owner: DoorOwner,
  passphrase?: string,
): Promise<SecretBytes> {
  const door = Door.parse(blob, doorKind(owner, KIND)), method = Method.of(door);
  const tried = passphrase !== undefined && method.stretching !== undefined ? readings(passphrase) : [undefined];
  return door.openBy(owner, (async function* () {
    for (const reading of tried) yield await method.key(phrase, reading, owner);
  })());
}

/** Return the door's language and whether it asks for a passphrase, unauthenticated. Throws as `openPhraseDoor` does. */
export function readPhraseDoor(
  blob: Uint8Array,
  section: Section = "vault",
): { language: Language; hasPassphrase: boolean } {
  const { language, stretching } = Method.of(Door.parse(blob, doorKind({ section }, KIND)));
  return { language, hasPassphrase: stretching !== undefined };
}

/**
 * Return the signing key that the phrase holds, whose public half the account chain names.
 *
 * It rests on nothing stored, so that it is there when every server and every door is gone; a passphrase is stretched at
 * the default cost under a salt of the account's own. Rejects with Unusable for an empty or unreadable passphrase.
 */
export async function recoveryKey(
  phrase: Phrase,
  of: { tenant: Bytes; user: Bytes; kind: SigningKind; passphrase?: string | undefined },
): Promise<SigningKey> {
  return keyOf(phrase, of, chosen(of.passphrase));
}

/** Give the keys that the chain may name for the phrase: one for each of the passphrase's `readings`. */
export async function* recoveryKeys(
  phrase: Phrase,
  of: { tenant: Bytes; user: Bytes; kind: SigningKind; passphrase?: string | undefined },
): AsyncGenerator<SigningKey> {
  const tried = of.passphrase === undefined ? [undefined] : readings(of.passphrase).filter((one) => one.length > 0);
  for (const reading of tried) yield await keyOf(phrase, of, reading);
}

async function keyOf(
  phrase: Phrase,
  { tenant, user, kind }: { tenant: Bytes; user: Bytes; kind: SigningKind },
  reading: SecretBytes | undefined,
): Promise<SigningKey> {
  const stretched: Bytes[] = [];
  if (reading !== undefined) {
    // The words alone must not sign where they alone do not open: peers follow such a rotation.
    const salt = sha256(label("recovery", tenant, user)).slice(0, SALT_SIZE);
    stretched.push((await new Stretching(DEFAULT_COST, salt).stretch(reading)).reveal());
  }
  const octets = hkdf({
    // A fixed salt: anything stored could be lost or changed by a server, and this key is for when all of that is gone.
    salt: label("recovery"),
    ikm: new SecretBytes(concat(phrase.entropy.reveal(), ...stretched)),
    // One phrase for two accounts, or two suites, gives keys that say nothing of each other.
    info: label("recovery", tenant, user, kind),
    length: SIGNING_SIZE,
  });
  return SigningKey.fromUniform(kind, octets);
}
