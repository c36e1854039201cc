// SPDX-License-Identifier: Apache-2.0
/** A file is there as a whole, or nothing of it is. */
import { expect, test } from "vitest";
import { utf8 } from "../../../src/core/base/bytes.js";
import { MachineError } from "../../../src/client/errors.js";
import { Collected, piecesOf, readAt, wholeFile } from "../../../src/client/escrow/whole_file.js";

const PIECES = ["one ", "two ", "three"].map((text) => utf8(text));

async function write(put: (piece: Uint8Array) => Promise<void>): Promise<string> {
  for (const piece of PIECES) await put(piece);
  return "done";
}

test("what was written is there once it is whole, and no earlier", async () => {
  const collected = new Collected();
  expect(() => collected.blob).toThrow(RangeError);
  expect(await wholeFile(collected.target, write)).toBe("done");
  expect(await collected.blob.text()).toBe("one two three");
});

test.each(["write", "close"])("a target that fails to %s is given up, and the machine is named", async (act) => {
  let given = "", isAborted = false;
  const full = (): never => {
    throw new Error("no space left");
  };
  const target = new WritableStream<Uint8Array>({
    write: (piece) => (act === "write" && given !== "" ? full() : void (given += new TextDecoder().decode(piece))),
    close: () => (act === "close" ? full() : undefined),
    abort: () => void (isAborted = true),
  });
  const error = await wholeFile(target, write).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(MachineError);
  expect((error as MachineError).message).toBe("The file was not written: no space left.");
  // A stream that has failed tells nobody to give up what it knows has failed.
  expect([given.startsWith("one "), isAborted]).toEqual([true, false]);
});

test("work that fails gives the target up", async () => {
  const collected = new Collected();
  const failing = async (put: (piece: Uint8Array) => Promise<void>): Promise<void> => {
    await put(PIECES[0] as Uint8Array);
    throw new RangeError("changed");
  };
  await expect(wholeFile(collected.target, failing)).rejects.toThrow("changed");
  expect(() => collected.blob).toThrow(RangeError);
});

test("a file is read in pieces of one size, the last one shorter", async () => {
  const source = new Blob(["0123456789"]), read: string[] = [];
  for await (const piece of piecesOf(source, 1, 4)) read.push(new TextDecoder().decode(piece));
  expect(read).toEqual(["1234", "5678", "9"]);
  expect((await readAt(source, 8, 4)).length).toBe(2);
});
