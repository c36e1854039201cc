// SPDX-License-Identifier: Apache-2.0
/**
 * A process that holds one end of sessions for Python's tests (tests/web/test_sessions_with_python.py).
 *
 * A line is JSON: `["hold", name, state, skipped]`, `["encrypt", name, texts]`, or `["decrypt", name, messages]`, octets in
 * hex. An answer is a list: of messages, or of texts with null for what does not open. After each line every session is put
 * into the bytes that a profile keeps, and read from them.
 */
import { createInterface } from "node:readline";
import { type Bytes, hex, unhex } from "../../src/core/base/bytes.js";
import { HoldfastError } from "../../src/core/base/errors.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { Session } from "../../src/core/messages/session.js";
import { NOW } from "../cast/server.js";

const held = new Map<string, Session>();

function read(state: Bytes, skipped: Bytes): Session {
  const session = Session.fromSecret(new SecretBytes(state));
  session.restoreSkipped(new SecretBytes(skipped));
  return session;
}

async function opened(session: Session, message: Bytes): Promise<string | null> {
  try {
    return hex(await session.decrypt(message, NOW));
  } catch (error) {
    if (error instanceof HoldfastError) return null;
    throw error;
  }
}

async function answer([verb, name, ...rest]: [string, string, ...unknown[]]): Promise<unknown[]> {
  if (verb === "hold") {
    const [state, skipped] = rest as [string, string];
    held.set(name, read(unhex(state), unhex(skipped)));
    return [];
  }
  const session = held.get(name) as Session, said: unknown[] = [];
  for (const octets of (rest[0] as string[]).map(unhex))
    said.push(verb === "encrypt" ? hex(await session.encrypt(octets)) : await opened(session, octets));
  held.set(name, read(session.toSecret().reveal(), session.skippedToSecret().reveal()));
  return said;
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
