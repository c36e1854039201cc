// SPDX-License-Identifier: Apache-2.0
/**
 * Files as a browser has them: read piece by piece from a Blob, and written whole or not at all.
 *
 * A target is a `WritableStream` whose `close` makes the file and whose `abort` leaves none, as those of the File System
 * Access API and of origin private files do; `Collected` is one in memory. Does not know what is in a file.
 */
import { MachineError } from "../errors.js";

/** Where a file is written to. Nothing of it may be used before it was closed. */
export type Target = WritableStream<Uint8Array>;

/** A target that keeps what is written to it, to be handed to a person once it is whole. */
export class Collected {
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  #blob: Blob | undefined;

  /** What to write to, once. */
  readonly target: Target = new WritableStream<Uint8Array>({
    write: (piece) => void this.#pieces.push(piece.slice()),
    close: () => {
      this.#blob = new Blob(this.#pieces);
      this.#pieces = [];
    },
    abort: () => {
      this.#pieces = [];
    },
  });

  /** The whole file. Throws a RangeError before it is closed, and when it was given up (a caller's mistake). */
  get blob(): Blob {
    if (this.#blob === undefined) throw new RangeError("the file is not whole");
    return this.#blob;
  }
}

/**
 * Write a file: `work` is given what takes a piece. Closed when that ends; given up, and nothing left, when it fails.
 *
 * Rejects with MachineError where the target takes nothing more, as on a full disk, and with a TypeError for a target that
 * something else writes to (a caller's mistake).
 */
export async function wholeFile<T>(
  target: Target,
  work: (put: (piece: Uint8Array) => Promise<void>) => Promise<T>,
): Promise<T> {
  const writer = target.getWriter();
  const tried = async (act: Promise<void>): Promise<void> => {
    try {
      await act;
    } catch (error) {
      throw new MachineError(`The file was not written: ${messageOf(error)}.`, {
        wayOut: "Make room, or choose another place, and try again. Nothing of it was kept.",
        cause: error,
      });
    }
  };
  try {
    const done = await work((piece) => tried(writer.write(piece)));
    await tried(writer.close());
    return done;
  } catch (error) {
    // What has failed already says so again here.
    await writer.abort(error).catch(() => undefined);
    throw error;
  }
}

/** Read so many bytes of a file, fewer at its end. Rejects with MachineError where it cannot be read any more. */
export async function readAt(source: Blob, start: number, size: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await source.slice(start, start + size).arrayBuffer());
  } catch (error) {
    throw new MachineError(`The file cannot be read: ${messageOf(error)}.`, {
      wayOut: "It was changed or taken away since it was chosen: choose it again.",
      cause: error,
    });
  }
}

/** Read a file from `start` on, in pieces of `size` bytes; the last may be shorter. */
export async function* piecesOf(source: Blob, start: number, size: number): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let at = start; at < source.size; at += size) yield await readAt(source, at, size);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
