// SPDX-License-Identifier: Apache-2.0
/**
 * Archive keys in use: this month's generation, and files encrypted and decrypted under them.
 *
 * docs/spec/protocol.md section 2 (archive keys) on the records of `core/escrow/archive`. Does not deposit a key; it
 * refuses to use one that the policy wants deposited first.
 */
import { type Bytes, EMPTY, equal } from "../../core/base/bytes.js";
import { HoldfastError, Malformed } from "../../core/base/errors.js";
import type { SecretBytes } from "../../core/base/secret.js";
import {
  decryptSegments, encryptSegments, newArchiveKey, prefixSize, readPrefix, SEGMENT_SIZE, TAG_SIZE,
} from "../../core/escrow/archive.js";
import { archiveKeyCommitment } from "../../core/escrow/deposit.js";
import type { ChainState } from "../../core/identity/chain.js";
import * as chainAuthor from "../../core/identity/chain_author.js";
import type { Entry } from "../../core/identity/entries.js";
import { ConsentNeeded, ProfileError, RaceLost, TrustRefused, WrongInput } from "../errors.js";
import * as chains from "../identity/chains.js";
import type { Account } from "../profile/account.js";
import type { Generation } from "../profile/state.js";
import * as escrow from "./escrow.js";
import { piecesOf, readAt, type Target, wholeFile } from "./whole_file.js";

const START = 6; // the bytes of a record from which its prefix's length follows

/** Told how many bytes are done so far. */
export type Advance = (done: number) => void;

/** A file that was written: the generation it is under, its content's bytes, and how long that took. */
export interface FileDone {
  readonly generation: number;
  readonly size: number;
  readonly seconds: number;
}

/** What goes with the work on a file. */
export interface Watching {
  readonly advance?: Advance;
}

/** Return a function that says how many seconds have passed since. */
export function stopwatch(): () => number {
  const started = performance.now();
  return () => (performance.now() - started) / 1000;
}

/**
 * Return this month's archive key, announcing a fresh one in the account chain when there is none.
 *
 * The key is kept before it is announced. When another device announced one first, that one counts, and RaceLost says to
 * fetch it from the vault.
 */
export async function currentGeneration(account: Account): Promise<Generation> {
  const state = await chains.refresh(account), now = account.api.clock.earliest();
  const announced = state?.generations.at(-1);
  if (announced !== undefined && isOfNow(announced.notBefore, now)) {
    const newest = account.state.generation(announced.generation);
    // One of this device's own making that lost the race for its number is not the one that others hold.
    if (newest === undefined || !equal(newest.commitment, announced.commitment))
      throw new RaceLost("Another device of yours made this month's archive key.", {
        wayOut: "Call client.maintain() there, then here.",
      });
    if (!newest.isExposed) return newest;
  }
  return newGeneration(account);
}

/** Make and announce a fresh archive key: at the turn of a month, after a revocation, after a recovery. */
export async function newGeneration(account: Account): Promise<Generation> {
  let made: Generation | undefined;
  await chains.append(account, async (state: ChainState): Promise<Entry[]> => {
    const last = state.generations.at(-1), number = (last?.generation ?? 0) + 1;
    const key = newArchiveKey(), notBefore = Math.max(account.api.clock.earliest(), last?.notBefore ?? 0);
    const commitment = archiveKeyCommitment(number, key);
    made = { number, key, notBefore, commitment, depositId: EMPTY, recordHash: EMPTY, isExposed: false };
    // A race for one number is won by the first accepted; the loser takes the next under another key.
    account.state.generations = [...account.state.generations.filter((known) => known.number < number), made];
    await account.save();
    const by = await account.author(state);
    return [await chainAuthor.archiveGeneration(state, { by, generation: number, notBefore, commitment })];
  });
  return made as unknown as Generation;
}

/**
 * Encrypt a file under this month's key. `advance` is told the bytes done so far.
 *
 * Rejects with ConsentNeeded when the policy wants the key in escrow first, and with MachineError where the file cannot be
 * read or written; nothing is left behind then.
 */
export async function encryptFile(
  account: Account,
  source: Blob,
  target: Target,
  { advance = () => undefined }: Watching = {},
): Promise<FileDone> {
  const seconds = stopwatch(), generation = await currentGeneration(account);
  if (generation.depositId.length === 0 && (await escrow.mustDepositFirst(account)))
    throw new ConsentNeeded(
      "Your organisation's policy wants this month's archive key in escrow before it is used.",
      { wayOut: "Read what that means and decide: client.escrow.consentText(), then client.escrow.consent()" },
    );
  const { tenant, user } = account, { number, key } = generation;
  let size = 0;
  async function* segments(): AsyncGenerator<Uint8Array> {
    for await (const segment of piecesOf(source, 0, SEGMENT_SIZE)) {
      size += segment.length;
      advance(size);
      yield segment;
    }
  }
  await wholeFile(target, async (put) => {
    const record = encryptSegments(segments(), { archiveKey: key, tenant, user, generation: number });
    for await (const piece of record) await put(piece);
  });
  return { generation: number, size, seconds: seconds() };
}

/**
 * Decrypt a file under the generation that it names. Nothing is left behind unless all of it was authentic.
 *
 * Rejects with ProfileError when this device does not hold that generation's key, TrustRefused for a changed file,
 * WrongInput for another one.
 */
export async function decryptFile(
  account: Account,
  source: Blob,
  target: Target,
  { advance = () => undefined }: Watching = {},
): Promise<FileDone> {
  const seconds = stopwatch();
  try {
    const prefix = await readStart(source), [header] = readPrefix(prefix);
    const generation = account.state.generation(header.generation);
    const isOwn = equal(header.tenant, account.tenant) && equal(header.user, account.user);
    if (!isOwn || generation === undefined)
      throw new ProfileError(
        `This device does not hold the archive key of generation ${header.generation} of that account.`,
        { wayOut: "Call client.maintain(); or bring your keys to this device: client.recover" },
      );
    const size = await decryptRest(prefix, pieces(source, prefix.length), target, generation.key, advance);
    return { generation: header.generation, size, seconds: seconds() };
  } catch (error) {
    throw notDecrypted(error);
  }
}

/**
 * Decrypt the pieces that follow a record's prefix into a new file, and return how many bytes it has.
 *
 * Rejects with what `wholeFile`, `decryptSegments` and `rest` reject with; nothing is left behind then.
 */
export function decryptRest(
  prefix: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
  target: Target,
  archiveKey: SecretBytes,
  advance: Advance,
): Promise<number> {
  return wholeFile(target, async (put) => {
    let size = 0;
    for await (const segment of decryptSegments(prefix, rest, archiveKey)) {
      await put(segment);
      size += segment.length;
      advance(size);
    }
    return size;
  });
}

/** Return what to throw for a file that is no record, or is not as it was encrypted; any other error as it is. */
export function notDecrypted(error: unknown): unknown {
  if (error instanceof Malformed)
    return new WrongInput(`This is no file that Holdfast encrypted: ${error.message}.`, {
      wayOut: "Look for another file.",
      cause: error,
    });
  if (!(error instanceof HoldfastError)) return error;
  return new TrustRefused(`The file is not as it was encrypted: ${error.message}.`, {
    wayOut: "It was cut, or changed, on its way or where it lay: take another copy. Nothing of it was kept.",
    cause: error,
  });
}

/** Read a record's prefix from the beginning of its file. Rejects with Malformed when it is none. */
export async function readStart(source: Blob): Promise<Bytes> {
  return readAt(source, 0, prefixSize(await readAt(source, 0, START)));
}

/** Read what follows a prefix of so many bytes, cut as the record was written. */
export function pieces(source: Blob, start: number): AsyncGenerator<Bytes> {
  return piecesOf(source, start, SEGMENT_SIZE + TAG_SIZE);
}

/**
 * Tell whether a generation that began at `then` is the one to write under: this month's, or one still to come.
 *
 * The second was made under a clock that was ahead. The next would begin no earlier, so one more is of no use.
 */
function isOfNow(then: number, now: number): boolean {
  const month = (at: number): number => new Date(at * 1000).getUTCFullYear() * 12 + new Date(at * 1000).getUTCMonth();
  return then >= now || month(then) >= month(now);
}
