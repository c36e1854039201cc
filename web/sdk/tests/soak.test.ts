// SPDX-License-Identifier: Apache-2.0
/** A session under load: thousands of messages in any order, and thousands that somebody changed on their way. */
import { expect, test } from "vitest";
import { type Bytes, utf8 } from "../src/core/base/bytes.js";
import { HoldfastError } from "../src/core/base/errors.js";
import { Suite } from "../src/core/crypto/suites.js";
import type { Session } from "../src/core/messages/session.js";
import { sessionsOf, stored } from "./cast/sessions.js";
import { NOW } from "./cast/server.js";

/** The same numbers in every run: a failure is found again. xorshift32. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

async function opened(session: Session, message: Bytes): Promise<string> {
  return new TextDecoder().decode(await session.decrypt(message, NOW));
}

async function refuses(session: Session, message: Bytes): Promise<void> {
  try {
    await session.decrypt(message, NOW);
  } catch (error) {
    expect(error).toBeInstanceOf(HoldfastError);
    return;
  }
  throw new Error("opened what nobody sent, or a second time");
}

test("a thousand messages each way arrive in any order, each of them once", async () => {
  let [alice, bob] = await sessionsOf(Suite.HYBRID);
  const any = chance(7), ways: { to: "alice" | "bob"; text: string; message: Bytes }[] = [];
  // In turns of up to forty, so that five chains are under way at once; what is late comes up to three turns later.
  const sent = { alice: 0, bob: 0 }, got: string[] = [];
  const take = async (at: number): Promise<void> => {
    const [{ to, text, message }] = ways.splice(at, 1) as [(typeof ways)[number]];
    const session = to === "alice" ? alice : bob;
    expect(await opened(session, message)).toBe(text);
    got.push(text);
    if (any(20) === 0) await refuses(session, message);
  };
  while (sent.alice < 1000 || sent.bob < 1000) {
    for (const from of ["alice", "bob"] as const)
      for (let left = Math.min(1 + any(40), 1000 - sent[from]); left > 0; left--) {
        const text = `${from} ${sent[from]++}`, session = from === "alice" ? alice : bob;
        ways.push({ to: from === "alice" ? "bob" : "alice", text, message: await session.encrypt(utf8(text)) });
      }
    while (ways.length > 60) await take(any(ways.length));
    // As the client has it: read from the store for each act.
    [alice, bob] = [stored(alice), stored(bob)];
  }
  while (ways.length > 0) await take(any(ways.length));
  expect(new Set(got).size).toBe(2000);
  expect(got).not.toEqual([...got].sort());
});

test("a thousand messages of one chain arrive in any order", async () => {
  const [alice, bob] = await sessionsOf(Suite.CLASSICAL), any = chance(11), waiting: [string, Bytes][] = [];
  for (let number = 0; number < 1000; number++) waiting.push([`${number}`, await alice.encrypt(utf8(`${number}`))]);
  while (waiting.length > 0) {
    const [[text, message]] = waiting.splice(any(waiting.length), 1) as [[string, Bytes]];
    expect(await opened(bob, message)).toBe(text);
  }
  expect(await opened(alice, await bob.encrypt(utf8("all there")))).toBe("all there");
});

test("ten thousand changed messages do not open, and the session goes on", async () => {
  const [alice, bob] = await sessionsOf(Suite.HYBRID), any = chance(13);
  await opened(alice, await bob.encrypt(utf8("so that the initial part is gone")));
  // One that was skipped, the next of this chain, and the first of the next one: all three ways in which one opens.
  const texts = ["skipped", "of this chain", "after a turn"], genuine = [await alice.encrypt(utf8("skipped"))];
  await opened(bob, await alice.encrypt(utf8("behind it")));
  genuine.push(await alice.encrypt(utf8("of this chain")));
  await opened(alice, await bob.encrypt(utf8("turn")));
  genuine.push(await alice.encrypt(utf8("after a turn")));
  const before = bob.toSecret(), skipped = bob.skippedToSecret();
  for (let number = 0; number < 10_000; number++) {
    const changed = (genuine[any(3)] as Bytes).slice(), way = any(10);
    if (way < 7) for (let bits = 1 + any(3), at = any(changed.length); bits > 0; bits--, at = any(changed.length))
      changed[at] = (changed[at] as number) ^ (1 << any(8));
    const isSame = genuine.some((one) => one.length === changed.length && one.every((octet, at) => octet === changed[at]));
    if (way === 7) await refuses(bob, changed.slice(0, any(changed.length)));
    else if (way === 8) await refuses(bob, Uint8Array.of(...changed, any(256)));
    else if (way === 9) {
      // The head of one, the body of another.
      const other = genuine[(genuine.findIndex((one) => one[20] === changed[20]) + 1) % 3] as Bytes, at = 20 + any(60);
      changed.set(other.subarray(at, changed.length), at);
      await refuses(bob, changed);
    } else if (!isSame) await refuses(bob, changed);
  }
  expect(bob.toSecret().equals(before), "a message that does not open changes nothing").toBe(true);
  expect(bob.skippedToSecret().equals(skipped)).toBe(true);
  for (const [at, text] of texts.entries()) expect(await opened(bob, genuine[at] as Bytes)).toBe(text);
  expect(await opened(alice, await bob.encrypt(utf8("on")))).toBe("on");
});
