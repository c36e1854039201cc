// SPDX-License-Identifier: Apache-2.0
/** An account on this device: its keys, what it is pinned to, and what it refuses before it has either. */
import { beforeAll, describe, expect, test } from "vitest";
import { type Bytes, equal, hex, utf8 } from "../../../src/core/base/bytes.js";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { verify } from "../../../src/core/crypto/keys.js";
import { Suite } from "../../../src/core/crypto/suites.js";
import { randomBytes } from "../../../src/core/crypto/webcrypto.js";
import { headOf } from "../../../src/core/identity/chain.js";
import { ProfileError, WrongInput } from "../../../src/client/errors.js";
import { Account, openStore, rootKeyOf } from "../../../src/client/profile/account.js";
import { State } from "../../../src/client/profile/state.js";
import { MemoryStore } from "../../../src/client/profile/store.js";
import { Clock } from "../../../src/client/server/clock.js";
import { ALICE, Members } from "../../cast/members.js";
import { NOW, TENANT, URL } from "../../cast/server.js";

const memory = (): MemoryStore => new MemoryStore({ tenant: TENANT, user: ALICE });
const fresh = (): Account => new Account(memory(), new State());

let world: Members, account: Account;
beforeAll(async () => {
  world = new Members();
  account = await world.enrolled(ALICE);
});

const BEFORE: [string, (account: Account) => unknown, RegExp][] = [
  ["a server", ({ api }) => api, /Client\.enrol/],
  ["an address", (one) => one.connect(), /Client\.enrol/],
  ["a device", ({ device }) => device, /Client\.enrol/],
  ["the device's key", (one) => one.signingKey(), /Client\.enrol/],
  ["the identity key", (one) => one.identityKey(), /recover/],
  ["a chain", (one) => one.chain(), /Client\.enrol/],
  ["a tenant", (one) => one.trusted(), /Client\.enrol/],
  ["an escrow key", (one) => one.escrowKey(), /escrow\.status/],
];

describe("before enrolment", () => {
  test.each(BEFORE)("an account has not %s, and says what brings it", async (_, use, wayOut) => {
    const error = await (async () => use(fresh()))().catch((found: unknown) => found);
    expect(error).toBeInstanceOf(ProfileError);
    expect((error as ProfileError).wayOut).toMatch(wayOut);
  });

  test("an account has no policies, no roles and no turn, which is no error", async () => {
    const one = fresh();
    expect([await one.policies(), await one.roles(), one.isCopyFound]).toEqual([[], undefined, false]);
    expect(Math.abs(one.clock.earliest() - Date.now() / 1000)).toBeLessThan(5);
  });

  test("a store without a state is no profile", async () => {
    await expect(openStore(memory())).rejects.toThrow(ProfileError);
  });
});

describe("the connection", () => {
  const fetch = (): never => {
    throw new Error("nobody asks yet");
  };

  test("belongs to the server that it was first made to, however that one's address is written", async () => {
    const one = fresh();
    await one.connect("https://Keys.example/", { fetch });
    await one.save();
    const again = await openStore(one.store);
    await expect(again.connect("https://other.example", { fetch })).rejects.toThrow(WrongInput);
    await again.connect("https://keys.example", { fetch });
    expect([again.state.server, again.api.credential]).toEqual(["https://keys.example", undefined]);
  });

  test.each(["http://keys.example", "ftp://keys.example", "keys.example", "https://a:b@keys.example", ""])(
    "is not made to %s", async (server) => {
      await expect(fresh().connect(server, { fetch })).rejects.toThrow(server === "" ? ProfileError : WrongInput);
    },
  );

  test("signs as the device, by its key, and by the key that another page gave it", async () => {
    const one = await openStore(await world.copied(account));
    await one.connect(URL, { fetch: world.server.fetch, clock: new Clock(() => NOW * 1000) });
    const before = one.api.credential;
    expect(before?.device).toBe(account.deviceText);
    const other = await openStore(one.store);
    other.device.signingSeed = new SecretBytes(randomBytes(32));
    await other.save();
    await one.reload();
    expect(one.api.credential?.key).not.toBe(before?.key);
    expect(await one.signingKey()).toBe(one.api.credential?.key);
  });
});

describe("the keys", () => {
  test("are imported once, and anew when their seed is another", async () => {
    const one = await world.opened(await world.copied(account));
    for (const key of ["signingKey", "agreementKey", "sealingKey", "identityKey"] as const) expect(await one[key]()).toBe(await one[key]());
    const before = await one.identityKey();
    one.state.identitySeed = new SecretBytes(randomBytes(32));
    expect(equal((await one.identityKey()).public.encoded, before.public.encoded)).toBe(false);
  });

  test.each(Object.values(Suite))("are of the device's suite (%s), and those that its statement names", async (suite) => {
    const one = await world.enrolled(utf8(`suite-${suite}`.padEnd(16, "-")), suite), said = one.deviceStatement;
    const found = [await one.signingKey(), await one.agreementKey(), await one.sealingKey()].map((key) => hex(key.public.encoded));
    expect([one.suite, ...found]).toEqual([suite, ...[said.signingKey, said.agreementKey, said.sealingKey].map((key) => hex(key.encoded))]);
    const signed = utf8("x"), signature = await (await one.identityKey()).sign(signed);
    await verify((await one.chain()).aik, signature, signed); // which rejects otherwise
  });
});

describe("what an account writes", () => {
  test("is dated now; an entry of the chain never before the newest one, whatever the clock says", async () => {
    const one = await world.opened(await world.copied(account)), state = await one.chain();
    expect([one.header().issuedAt, one.header().expiresAt]).toEqual([NOW, 0]);
    expect([one.header({ issuedAt: 5, lastsSeconds: 60 }).expiresAt, one.header({ lastsSeconds: 60 }).expiresAt]).toEqual([65, NOW + 60]);
    const early = await world.opened(await world.copied(account), world.server.fetch, () => NOW - 86_400);
    expect([(await early.author()).issuedAt, (await early.author(state)).issuedAt]).toEqual([NOW - 86_400, state.time]);
  });

  test("names it as both ends of a session see it: at the newest head of its chain", async () => {
    const me = await account.me();
    expect([hex(me.head), hex(me.aik.encoded)]).toEqual([hex(headOf(await account.chain())), hex((await account.identityKey()).public.encoded)]);
  });
});

test("a tenant root key is of one of two kinds", async () => {
  const { aik } = await account.chain(), { agreementKey, sealingKey } = account.deviceStatement;
  expect(equal(rootKeyOf(aik.encoded).encoded, aik.encoded)).toBe(true);
  for (const other of [agreementKey.encoded, sealingKey.encoded, new Uint8Array(33) as Bytes]) expect(() => rootKeyOf(other)).toThrow();
});
