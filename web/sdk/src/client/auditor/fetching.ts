// SPDX-License-Identifier: Apache-2.0
/**
 * The export of a long log, made by the server in the background: fetched piece by piece, and gone on with later.
 *
 * docs/formats/audit-log.md "Export". It verifies nothing: `log` does, once the file is whole.
 */
import type { Bytes } from "../../core/base/bytes.js";
import { uuidText } from "../../core/base/uuids.js";
import { AnswerRefused, NotYet, Problem, Unreachable } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import { sleep } from "../waiting.js";

/** Bytes: thousands of entries of 16 KiB; of common ones a piece has 1.5 MiB. */
export const MAX_PIECE = 64 * 1024 * 1024;
/** Forty million entries. */
export const MAX_PIECES = 10_000;
const POLL_SECONDS = 1;
// The server says at each look how far it is. One that has not moved for so long has no worker, and tells its operator.
const PATIENCE_SECONDS = 300;
const TRIES = 5; // of one piece, at a line that breaks
const WRONG_ENDS = "The server's answer is wrong: ends of pieces that cannot be.";
const AGAIN = "Call it again with the same `begun`: it goes on where this one stopped, for a day.";

/** Told how many entries are there, and of how many. */
export type Tell = (done: number, size: number) => void;

/**
 * What there is of an export so far. Made empty by whoever asks; handed in again, fetching goes on with it.
 *
 * Its pieces are packed, as they came.
 */
export class Begun {
  /** The export on the server; "" before there is one. */
  exportId = "";
  pieces: Blob[] = [];
}

/**
 * Return the export of a log as one file, of at most `maximum` bytes.
 *
 * Goes on with what `begun` has, while the server keeps it. Rejects with NotYet when the server makes no headway, and
 * Unreachable when the line broke: what was fetched stays in `begun` for the next call.
 */
export async function fetch(
  account: Account,
  of: { log: string; maximum: number; tell: Tell; begun: Begun },
): Promise<Blob> {
  const { begun, tell } = of;
  let document = await start(account, of.log, begun);
  const path = `audit/exports/${begun.exportId}`;
  for (let moved = performance.now(), done = -1; ; ) {
    const ends = [0, ...document.numbers("ends", { maximum: MAX_PIECES })], size = document.number("size");
    if ((ends.at(-1) as number) > of.maximum) throw new AnswerRefused(WRONG_ENDS);
    if (document.number("done") !== done) [done, moved] = [document.number("done"), performance.now()];
    for (let number = begun.pieces.length; number < ends.length - 1; number++) {
      const length = (ends[number + 1] as number) - (ends[number] as number);
      begun.pieces.push(new Blob([await pieceOf(account, `${path}/pieces/${number}`, length)]));
      tell(Math.floor((done * (number + 1)) / (ends.length - 1)), size);
    }
    if (document.flag("ready")) break;
    if (performance.now() - moved > PATIENCE_SECONDS * 1000)
      throw new NotYet(`The server has made ${done} of the export's ${size} entries, and does not go on.`, {
        wayOut: `${AGAIN} Tell your operator if it stays so.`,
      });
    await sleep(POLL_SECONDS);
    document = await account.api.get(path);
  }
  return unpacked(begun, of.maximum);
}

/** Return the export that pieces were left of, or begin another. */
async function start(account: Account, log: string, begun: Begun): Promise<Answer> {
  if (begun.exportId !== "")
    try {
      const document = await account.api.get(`audit/exports/${begun.exportId}`);
      if (document.text("log") === log && uuidText(document.identifier("id")) === begun.exportId) return document;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
    }
  // The server keeps it no longer, or it is of another log: nothing adds to these pieces any more.
  begun.pieces = [];
  const document = await account.api.post("audit/exports", { log });
  begun.exportId = uuidText(document.identifier("id"));
  return document;
}

/** Fetch one piece whole, trying again where the line breaks. */
async function pieceOf(account: Account, path: string, size: number): Promise<Bytes> {
  if (!(size > 0 && size <= MAX_PIECE)) throw new AnswerRefused(WRONG_ENDS);
  const octets = new Uint8Array(size);
  let at = 0;
  for (let attempt = 1; ; attempt++)
    try {
      at = 0;
      for await (const piece of account.api.download(path, { maximum: size })) {
        octets.set(piece, at);
        at += piece.length;
      }
      break;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      if (attempt >= TRIES) throw new Unreachable(error.message, { wayOut: AGAIN, cause: error });
      await sleep(POLL_SECONDS);
    }
  if (at !== size)
    throw new AnswerRefused("The server's answer is wrong: a piece of the export is shorter than it said.");
  return octets;
}

/** Return what the pieces are together, at most `maximum` bytes: packed, little can be very much. */
async function unpacked(begun: Begun, maximum: number): Promise<Blob> {
  const parts: Blob[] = [];
  let written = 0;
  for (const piece of begun.pieces) {
    // Each by itself: it is a member of gzip (RFC 1952), and a browser unpacks no second one behind the first.
    const plain = piece.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    try {
      for (let next = await plain.read(); !next.done; next = await plain.read()) {
        written += next.value.length;
        if (written > maximum)
          throw new AnswerRefused("The server's answer is wrong: the export is longer than a log may be.");
        // A browser keeps a large Blob on its disk.
        parts.push(new Blob([next.value as Bytes]));
      }
    } catch (error) {
      begun.pieces = [];
      if (error instanceof AnswerRefused) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new AnswerRefused(`The server's answer is wrong: the pieces are no file (${why}).`, { cause: error });
    } finally {
      await plain.cancel().catch(() => undefined);
    }
  }
  return new Blob(parts);
}
