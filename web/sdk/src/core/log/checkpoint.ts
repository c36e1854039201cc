// SPDX-License-Identifier: Apache-2.0
/**
 * Signed log heads: C2SP tlog-checkpoint bodies in signed-note form, with Ed25519 (type 0x01) or ECDSA P-256.
 *
 * Only verifies: a log's key is in an HSM. https://c2sp.org/tlog-checkpoint "Note text", https://c2sp.org/signed-note.
 */
import { type Bytes, concat, equal, hex, isWellFormed, utf8 } from "../base/bytes.js";
import { b64u, MAX_UINT, unb64u } from "../base/encoding.js";
import { InvalidSignature, Malformed } from "../base/errors.js";
import { hasSpace, stripped } from "../base/typed.js";
import { HASH_SIZE, sha256 } from "../crypto/hashing.js";
import { KeyKind, PublicKey, SIGNATURE_SIZE, verify } from "../crypto/public_keys.js";

/** Bytes: a note is read whole before a signature is checked, and comes from strangers. */
export const MAX_NOTE = 16 * 1024;
const KEY_ID_SIZE = 4; // bytes: signed-note, "Signatures". It picks the key to try and proves nothing
const SIGNATURE_MARK = "\u2014 "; // signed-note, "Format": em dash and a space, which no base64 holds

// signed-note gives ECDSA no number of its own with raw keys, so P-256 takes 0xff and a name of ours.
const TYPES: readonly (readonly [KeyKind, Bytes])[] = [
  [KeyKind.ED25519, Uint8Array.of(1)],
  [KeyKind.P256_SIGNING, concat(Uint8Array.of(0xff), utf8("holdfast/v1/p256"))],
];

/** One head of a log. root: 32 bytes. time: Unix seconds of signing, where the head says it. */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Bytes;
  readonly time: number | undefined;
}

/** Read a body; throws Malformed. Extension lines other than `time` are left alone. */
export function checkpointFromText(text: string): Checkpoint {
  requireUtf8(text);
  const lines = text.split("\n");
  // tlog-checkpoint, "Note text": three lines at least, each of them ended and none empty.
  if (lines.length < 4 || lines.at(-1) !== "" || !lines.slice(0, -1).every((line) => line !== ""))
    throw new Malformed("checkpoint: not three lines or more, each ended");
  const [origin, size, root, ...extensions] = lines as [string, string, string, ...string[]];
  const time = extensions.find((line) => line.startsWith("time "));
  return {
    origin,
    size: decimal(size, "size"),
    root: octets(root, "root", HASH_SIZE),
    time: time === undefined ? undefined : decimal(time.slice(5), "time"),
  };
}

/** The public half of a log's key, under the log's name. */
export class NoteVerifier {
  /** The first 4 bytes of SHA-256(name || 0x0A || type || key). signed-note, "Signatures". */
  readonly keyId: Bytes;

  constructor(
    readonly name: string,
    readonly key: PublicKey,
  ) {
    const type = TYPES.find(([kind]) => kind === key.kind)?.[1];
    if (type === undefined) throw new TypeError(`${key.kindName} keys sign no notes`);
    this.keyId = sha256(concat(utf8(`${name}\n`), type, key.raw)).slice(0, KEY_ID_SIZE);
  }

  /** Return the verifier key `name+key id in hex+base64(type || key)`, for people to carry. */
  toText(): string {
    const type = (TYPES.find(([kind]) => kind === this.key.kind) as [KeyKind, Bytes])[1];
    return `${this.name}+${hex(this.keyId)}+${base64(concat(type, this.key.raw))}`;
  }

  /** Read a verifier key `name+key id in hex+base64(type || key)`; throws Malformed, also when its id is not its key's. */
  static fromText(text: string): NoteVerifier {
    const plain = stripped(text), first = plain.indexOf("+"), second = plain.indexOf("+", first + 1);
    const typed = octets(first < 0 || second < 0 ? "" : plain.slice(second + 1), "verifier key");
    // The id repeats what name and key say: people carry this text by hand, and a slip shows here.
    for (const [kind, type] of TYPES) {
      if (!equal(typed.subarray(0, type.length), type)) continue;
      const verifier = new NoteVerifier(nameOf(plain.slice(0, first)), new PublicKey(kind, typed.slice(type.length)));
      if (hex(verifier.keyId) === plain.slice(first + 1, second)) return verifier;
    }
    throw new Malformed("verifier key: neither Ed25519 nor P-256, or its id is not its key's");
  }

  /**
   * Return the text of a note that this key signed.
   *
   * Rejects with Malformed for what is no note, and InvalidSignature when no line is of this key or one does not hold.
   * Lines of other keys (witnesses) are left alone. signed-note, "Verification".
   */
  async open(note: string): Promise<string> {
    const [text, lines] = split(note);
    // Name and id both: 4 bytes can be hit by chance or on purpose, so another key's line is skipped and not an error.
    const mine = lines.filter(([name, signed]) => name === this.name && equal(signed.subarray(0, 4), this.keyId));
    if (mine.length === 0) throw new InvalidSignature("the note is not signed by this key");
    // Every line of this key must hold, not one of them: a bad line beside a good one is nobody's honest work.
    for (const [, signed] of mine) {
      if (signed.length !== KEY_ID_SIZE + SIGNATURE_SIZE)
        throw new InvalidSignature("the note's signature has another length");
      await verify(this.key, signed.slice(KEY_ID_SIZE), utf8(text));
    }
    return text;
  }

  /** Return the checkpoint in a note that this key signed, whose origin is this key's name. */
  async openCheckpoint(note: string): Promise<Checkpoint> {
    const checkpoint = checkpointFromText(await this.open(note));
    // One key signs both logs of a tenant. Without this, a head of `audit` would pass for one of `keys`.
    if (checkpoint.origin !== this.name) throw new InvalidSignature("the checkpoint is of another log");
    return checkpoint;
  }
}

/** A log's name, and the keys any of which may sign a head of it: while one replaces another, both do. */
export class LogVerifier {
  constructor(
    readonly name: string,
    readonly keys: readonly PublicKey[],
  ) {}

  /**
   * Return the checkpoint in a note that one of the keys signed, under this log's name.
   *
   * Rejects with Malformed for what is no note, and InvalidSignature when no key has signed it.
   */
  async openCheckpoint(note: string): Promise<Checkpoint> {
    for (const key of this.keys)
      try {
        return await new NoteVerifier(this.name, key).openCheckpoint(note);
      } catch (error) {
        if (!(error instanceof InvalidSignature)) throw error;
      }
    throw new InvalidSignature("no key of this log has signed the head");
  }
}

function split(note: string): [text: string, lines: (readonly [string, Bytes])[]] {
  requireUtf8(note);
  if (utf8(note).length > MAX_NOTE) throw new Malformed("note: longer than 16 KiB");
  // The last empty line parts them: text may hold empty lines, signatures may not. signed-note, "Format".
  const mark = note.lastIndexOf("\n\n"), signatures = note.slice(mark + 2);
  if (mark < 0 || !signatures.endsWith("\n") || /[\x00-\x09\x0b-\x1f]/.test(note))
    throw new Malformed("note: no signatures, or control characters");
  const lines = signatures.slice(0, -1).split("\n").map((line): readonly [string, Bytes] => {
    // One bad line makes the whole note bad: skipping it would let two readers see two different notes.
    if (!line.startsWith(SIGNATURE_MARK)) throw new Malformed("note: a signature line of another form");
    const rest = line.slice(SIGNATURE_MARK.length), space = rest.indexOf(" ");
    const signed = octets(space < 0 ? "" : rest.slice(space + 1), "signature");
    if (signed.length <= KEY_ID_SIZE) throw new Malformed("note: a signature line without a signature");
    return [nameOf(space < 0 ? rest : rest.slice(0, space)), signed];
  });
  return [`${note.slice(0, mark)}\n`, lines];
}

function requireUtf8(text: string): void {
  // A lone surrogate, which JSON can carry and UTF-8 cannot.
  if (!isWellFormed(text)) throw new Malformed("note: not UTF-8");
}

function nameOf(name: string): string {
  requireUtf8(name);
  if (name === "" || name.includes("+") || hasSpace(name))
    throw new Malformed("note: a key name is not empty and has no space and no plus");
  return name;
}

function decimal(text: string, what: string): number {
  // No sign, no leading zero, no digits of other scripts: a number has one spelling.
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) throw new Malformed(`checkpoint: ${what} is not a decimal number`);
  const number = Number(text);
  if (number > MAX_UINT) throw new Malformed(`checkpoint: ${what} is too large`);
  return number;
}

/** Return base64 with its padding, as signed-note has it. */
function base64(data: Uint8Array): string {
  const bare = b64u(data).replaceAll("-", "+").replaceAll("_", "/");
  return bare + "=".repeat(-bare.length & 3);
}

function octets(text: string, what: string, size?: number): Bytes {
  const bare = /^([A-Za-z0-9+/]*)={0,2}$/.exec(text)?.[1];
  try {
    if (bare === undefined || text.length % 4 !== 0) throw new Malformed();
    const read = unb64u(bare.replaceAll("+", "-").replaceAll("/", "_"));
    // One value has one spelling: stray bits in the last character would give it several.
    const isCanonical = bare.length + (-bare.length & 3) === text.length && b64u(read).length === bare.length;
    if (isCanonical && (size === undefined || read.length === size)) return read;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
  }
  throw new Malformed(`${what}: not canonical base64, or of another length`);
}
