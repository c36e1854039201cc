// SPDX-License-Identifier: Apache-2.0
/**
 * The custody manifest of a disclosure: which files it opened, line after line, signed by the device that received it.
 *
 * docs/formats/custody.md, docs/spec/escrow.md "Case" (disclosure). Each line names the one before it, so that one left
 * out, put in or moved shows. It opens nothing: a client writes a line before it hands a file out.
 */
import { type Bytes, EMPTY, equal, utf8 } from "../base/bytes.js";
import { type Encodable, b64u, Fields, MAX_STATEMENT, unb64u } from "../base/encoding.js";
import { HoldfastError, Malformed, Untrusted } from "../base/errors.js";
import type { PublicKey } from "../crypto/public_keys.js";
import { type Case, caseFromPayload, disclosedUntil, isDisclosure } from "../identity/cases.js";
import { Sign1 } from "../signed/cose.js";
import { closePayload, HASH_SIZE, type Header, openPayload, readBack, requireDevice } from "../signed/payloads.js";
import { type DeviceStatement, openDevice } from "../signed/statements.js";

/** The first line of the file: a reader of another version stops here instead of calling the manifest broken. */
export const FORMAT = "holdfast/v1/custody-manifest\n";
/** In one line: 50 bytes each, well within the 16 KiB of a statement. */
export const MAX_FILES = 128;
/** In one manifest, 40 MB as text; a larger archive is read in two cases. */
export const MAX_LINES = 100_000;
/** Bytes: the longest line of the file, ended. */
export const MAX_TEXT = Math.floor((MAX_STATEMENT * 4 + 2) / 3) + 1;

/** A file that was opened: SHA-256 of its bytes as they lie in the archive, UTC seconds, and how many bytes. */
export interface OpenedFile {
  readonly digest: Bytes;
  readonly time: number;
  readonly size: number;
}

/** One line: files opened by the case whose statement hashes to `caseHash` (q). */
export interface CustodyLine {
  readonly header: Header;
  readonly caseHash: Bytes;
  /** From 1 on. */
  readonly seq: number;
  /** The hash of the line before; none in the first. */
  readonly previous: Bytes;
  /** None in the line that closes the manifest, when the keys were destroyed. */
  readonly files: readonly OpenedFile[];
}

/** Whether this line says that the keys were destroyed: none comes after it. */
export function closes(line: CustodyLine): boolean {
  return line.files.length === 0;
}

/** Return the payload bytes of a `custody` line: fields 7 to 10. Throws a RangeError for what no reader takes. */
export function custodyToPayload(of: CustodyLine): Bytes {
  const payload = closePayload(of.header, {
    7: of.caseHash,
    8: of.seq,
    9: of.previous.length === 0 ? undefined : of.previous,
    10: of.files.map((file): Encodable[] => [file.digest, file.time, file.size]),
  });
  return readBack(payload, custodyFromPayload);
}

/** Read the payload; throws Malformed. */
export function custodyFromPayload(payload: Uint8Array): CustodyLine {
  const [header, fields] = openPayload(payload, "custody line", [7, 8, 10], { optional: [9] });
  requireDevice(header, "custody line");
  const rows = fields.array(10, { maximum: MAX_FILES }).map((value) => Fields.ofRow(value, "custody file", 3));
  const caseHash = fields.octets(7, HASH_SIZE), seq = fields.uint(8, { minimum: 1, maximum: MAX_LINES });
  const previous = fields.has(9) ? fields.octets(9, HASH_SIZE) : EMPTY;
  const files = rows.map((row) => ({ digest: row.octets(0, HASH_SIZE), time: row.uint(1), size: row.uint(2) }));
  // A second beginning would hide all that came before it.
  if ((seq === 1) !== (previous.length === 0)) throw fields.refuse(8, "is 1 exactly when no line before is named");
  if (files.some((file) => file.time > header.issuedAt))
    throw fields.refuse(10, "names a file that was opened after the line was written");
  return { header, caseHash, seq, previous, files };
}

/** A manifest that holds together: the receiving device, its case, and every line, each as signed and as read. */
export class Manifest {
  readonly #statements: Sign1[] = [];
  readonly #lines: CustodyLine[] = [];

  /** Of a receiving device and its case, both verified, with no line yet. */
  constructor(
    readonly device: Sign1,
    readonly signedCase: Sign1,
    readonly asked: Case,
  ) {}

  /** Every line, as signed. */
  get statements(): readonly Sign1[] {
    return this.#statements;
  }

  /** Every line, as read. */
  get lines(): readonly CustodyLine[] {
    return this.#lines;
  }

  /**
   * Take in the next line, as signed. Rejects with Malformed or InvalidSignature for no line of this device, and Untrusted
   * for one of another case or that does not follow the one before.
   */
  async take(statement: Sign1, by: PublicKey): Promise<void> {
    const line = custodyFromPayload(await statement.verify(by, "custody"));
    requireNext(line, this);
    this.#statements.push(statement);
    this.#lines.push(line);
  }

  /** Whether the keys were destroyed. Before that, lines at the end may be missing or still to come. */
  get isClosed(): boolean {
    const last = this.lines.at(-1);
    return last !== undefined && closes(last);
  }

  /** Every file opened, in order. */
  get files(): OpenedFile[] {
    return this.lines.flatMap((line) => line.files);
  }

  /** Give the file, line by line. */
  toLines(): Generator<Bytes> {
    return writeManifest(this.device, this.signedCase, this.statements);
  }
}

/** Give a manifest line by line: the format, the device's statement, the case, then the lines in order. */
export function* writeManifest(device: Sign1, asked: Sign1, statements: Iterable<Sign1>): Generator<Bytes> {
  yield utf8(FORMAT);
  for (const statement of [device, asked]) yield utf8(`${b64u(statement.encode())}\n`);
  for (const statement of statements) yield utf8(`${b64u(statement.encode())}\n`);
}

/**
 * Read and verify a manifest, given line by line, each ended.
 *
 * Rejects with Malformed for another format, and Untrusted, naming the line of the file, for what does not follow: another
 * signer than the case's recipient device, a line missing, moved or put in, a file opened after the disclosure ended. It
 * proves what that device signed. Whether the case is the organisation's own, q in the audit log says.
 */
export async function readManifest(lines: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Manifest> {
  const given = each(lines);
  const next = async (): Promise<Uint8Array> => (await given.next()).value ?? EMPTY;
  if (!equal(await next(), utf8(FORMAT))) throw new Malformed("custody manifest: this file is not one");
  const device = await atLine(2, async () => statementOf(await next()));
  const signed = await atLine(3, async () => statementOf(await next()));
  const [receiver, asked] = await atLine(3, () => requireCase(device, signed));
  const manifest = new Manifest(device, signed, asked);
  let number = 3;
  for await (const text of given) {
    number++;
    await atLine(number, () => manifest.take(statementOf(text), receiver.signingKey));
  }
  return manifest;
}

async function* each(lines: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  yield* lines;
}

async function requireCase(device: Sign1, signed: Sign1): Promise<[DeviceStatement, Case]> {
  let receiver: DeviceStatement, asked: Case;
  try {
    receiver = await openDevice(device);
    asked = caseFromPayload(await signed.verify(receiver.signingKey, "case"));
  } catch (error) {
    if (error instanceof HoldfastError) throw new Untrusted(`the case does not hold: ${error.message}`);
    throw error;
  }
  if (!equal(asked.recipientDeviceHash, device.payloadHash) || !isOf(asked.header, receiver.header))
    throw new Untrusted("the case was opened by another device");
  if (!isDisclosure(asked))
    throw new Untrusted("the subject received this case themselves, so that nothing was disclosed");
  return [receiver, asked];
}

/** Hold a line to its case and to the line before it. Throws Untrusted. */
function requireNext(line: CustodyLine, { signedCase, asked, statements, lines }: Manifest): void {
  if (!isOf(line.header, asked.header) || !equal(line.caseHash, signedCase.payloadHash))
    throw new Untrusted("it is of another case or another device");
  const before = lines.at(-1);
  if (line.seq !== lines.length + 1 || !equal(line.previous, statements.at(-1)?.payloadHash ?? EMPTY))
    throw new Untrusted("it does not follow the line before: one is missing, was moved, or was put in");
  if (before !== undefined && (closes(before) || line.header.issuedAt < before.header.issuedAt))
    throw new Untrusted("it was written after the manifest was closed, or before the line that it follows");
  if (line.files.some((file) => file.time >= disclosedUntil(asked)))
    throw new Untrusted("a file was opened after the disclosure ended");
}

function isOf(one: Header, other: Header): boolean {
  return equal(one.tenant, other.tenant) && equal(one.user, other.user) && equal(one.device, other.device);
}

/** Whatever is refused within, names the line of the file. */
async function atLine<T>(number: number, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HoldfastError) throw new Untrusted(`line ${number}: ${error.message}`);
    throw error;
  }
}

function statementOf(text: Uint8Array): Sign1 {
  if (text.at(-1) !== 10) throw new Malformed("the line is cut off");
  const line = text.subarray(0, -1);
  if (line.some((octet) => octet > 127)) throw new Malformed("the line is not base64url");
  return Sign1.parse(unb64u(new TextDecoder().decode(line), MAX_STATEMENT));
}
