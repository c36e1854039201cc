// SPDX-License-Identifier: Apache-2.0
/** What a `Client` refuses and how its calls go with each other: closed, of another person, on two pages at once. */
import "fake-indexeddb/auto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Bytes, EMPTY, hex, unhex, utf8 } from "../../src/core/base/bytes.js";
import { Mistyped } from "../../src/core/base/errors.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { codeText, newCode } from "../../src/core/signed/enrolment.js";
import { Client } from "../../src/client/client.js";
import { ClientError, NotPossible, ProfileBusy, ProfileError, Unreachable, UpdateNeeded, WrongInput } from "../../src/client/errors.js";
import * as facets from "../../src/client/facets.js";
import { Account } from "../../src/client/profile/account.js";
import { State } from "../../src/client/profile/state.js";
import { IndexedDbStore, MemoryStore, type Store } from "../../src/client/profile/store.js";

const SERVER = "https://holdfast.example", ID = "01010101-0101-4101-8101-010101010101";
const ALICE = { tenant: new Uint8Array(16).fill(1) as Bytes, user: new Uint8Array(16).fill(2) as Bytes };
const offline = async (): Promise<Response> => {
  throw new TypeError("no network");
};
let made = 0;
const freshName = (): string => `profile ${made++}`;

/** A profile that knows its server and nothing else. */
async function profile(store: Store): Promise<Account> {
  const account = new Account(store, new State());
  account.state.server = SERVER;
  await account.save();
  return account;
}

async function opened(name: string, waitSeconds?: number): Promise<Client> {
  return Client.open(name, { fetch: offline, ...(waitSeconds === undefined ? {} : { waitSeconds }) });
}

async function madeProfile(): Promise<string> {
  const name = freshName();
  await (await profile(await IndexedDbStore.create(name, ALICE))).close();
  return name;
}

async function refusedBy(work: () => unknown): Promise<ClientError> {
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(ClientError);
    return error as ClientError;
  }
  throw new Error("was not refused");
}

const FACETS = ["devices", "contacts", "backup", "recover", "escrow", "archive", "disclosures", "cases", "officers", "organisation", "audit", "officers"];
// They ask nothing of the account.
const FREE = ["newPassword", "questions", "keeping"];

type Call = (...given: unknown[]) => Promise<unknown>;

/** Every method of an object that is called. */
function methodsOf(of: object): [string, Call][] {
  const found = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(of)));
  return found.flatMap(([name, { value }]) =>
    typeof value === "function" && name !== "constructor" ? [[name, value.bind(of) as Call]] : [],
  );
}

describe("a closed client", async () => {
  const account = await profile(new MemoryStore(ALICE));
  await account.connect("", { fetch: offline });
  const client = new Client(account);
  await client.close();
  const calls = [client, ...FACETS.map((name) => client[name as "devices"])].flatMap(methodsOf);

  test.each(calls.filter(([name]) => name !== "close" && !FREE.includes(name)))("refuses: %s", async (_, call) => {
    const seen = { act: "person-invite", given: {}, words: { token: new SecretBytes(utf8("t")) }, pending: { id: ID } };
    const error = await refusedBy(() => call(_ === "perform" || _ === "confirm" ? seen : ID, []));
    expect(error).toBeInstanceOf(NotPossible);
    expect([error.message, error.wayOut]).toEqual(["This client is closed.", "Open the profile again: Client.open()"]);
  });

  test("is closed again for nothing", () => client.close());
});

describe("opening", () => {
  test("refuses a profile that is not there, and leaves none behind", async () => {
    const name = freshName();
    for (let time = 0; time < 2; time++) {
      const error = await refusedBy(() => Client.open(name));
      expect(error).toBeInstanceOf(ProfileError);
      expect(error.wayOut).toContain("Client.enrol()");
    }
    expect((await indexedDB.databases()).map((one) => one.name)).not.toContain(`holdfast:${name}`);
  });

  test("refuses a profile that knows no server", async () => {
    const store = new MemoryStore(ALICE);
    await new Account(store, new State()).save();
    expect((await refusedBy(() => Client.open(store))).message).toBe("This profile knows no server yet.");
  });

  test("says whose it is", async () => {
    const client = await opened(await madeProfile());
    expect([client.tenant, client.user]).toEqual([
      "01010101-0101-0101-0101-010101010101", "02020202-0202-0202-0202-020202020202",
    ]);
    expect((await refusedBy(() => client.isActive())).message).toBe("This profile is not enrolled yet.");
    expect(client.enrolment).toBeUndefined();
    await client.close();
  });
});

describe("enrolling", () => {
  const code = codeText(newCode({ tenant: ALICE.tenant, person: ALICE.user }));

  test.each(["http://holdfast.example", "holdfast.example", "https://holdfast.example?a", ""])(
    "refuses the address %j, and makes nothing",
    async (address) => {
      const name = freshName();
      expect(await refusedBy(() => Client.enrol(address, code, { profile: name }))).toBeInstanceOf(WrongInput);
      expect((await refusedBy(() => Client.open(name))).message).toContain("There is no profile called");
    },
  );

  test("refuses what is no code, and makes nothing", async () => {
    const name = freshName();
    await expect(Client.enrol(SERVER, code.slice(0, -1), { profile: name })).rejects.toBeInstanceOf(Mistyped);
    expect((await refusedBy(() => Client.open(name))).message).toContain("There is no profile called");
  });

  test("refuses another person's profile", async () => {
    const name = await madeProfile(), other = newCode({ tenant: ALICE.tenant, person: new Uint8Array(16).fill(9) });
    const error = await refusedBy(() => Client.enrol(SERVER, codeText(other), { profile: name, fetch: offline }));
    expect(error).toBeInstanceOf(WrongInput);
    expect(error.message).toContain("another");
  });

  test("refuses another server for a profile", async () => {
    const of = { profile: await madeProfile(), fetch: offline };
    const error = await refusedBy(() => Client.enrol("https://other.example", code, of));
    expect(error.message).toBe("This profile belongs to https://holdfast.example.");
  });

  test("goes on from where the line broke, with the keys made then", async () => {
    const name = freshName(), of = { profile: name, fetch: offline };
    const keys = async (): Promise<Bytes> => {
      const store = await IndexedDbStore.open(name), { state } = await accountIn(store);
      await store.close();
      return state.device?.id ?? new Uint8Array(0);
    };
    expect(await refusedBy(() => Client.enrol(SERVER, code, of))).toBeInstanceOf(Unreachable);
    const first = await keys();
    expect(await refusedBy(() => Client.enrol(SERVER, code, of))).toBeInstanceOf(Unreachable);
    expect(await keys()).toEqual(first);
  }, 90_000);
});

async function accountIn(store: Store): Promise<Account> {
  const { openStore } = await import("../../src/client/profile/account.js");
  return openStore(store);
}

describe("calls", () => {
  test("wait for each other, and closing for all of them, whatever each has to load", async () => {
    const account = await profile(new MemoryStore(ALICE)), order: string[] = [];
    await account.connect("", { fetch: offline });
    const client = new Client(account), { store } = account, locked = store.locked.bind(store);
    store.locked = (work) =>
      locked(async () => {
        order.push("begins");
        await new Promise((resolve) => setTimeout(resolve, 5));
        return work().finally(() => order.push("ends"));
      });
    const calls = [client.contacts.all(), client.contacts.addresses(), client.device().catch(() => "refused")];
    await client.close();
    expect(order).toEqual(["begins", "ends", "begins", "ends", "begins", "ends"]);
    expect(await calls[2]).toBe("refused");
    await Promise.all(calls);
  });

  test("that fail leave in memory what is in the store", async () => {
    const account = await profile(new MemoryStore(ALICE));
    await account.connect("", { fetch: offline });
    const client = new Client(account), { store } = account;
    const spoil = new facets.Devices((load, work) =>
      (client.contacts as unknown as { use: facets.Use }).use(load, async (one, part) => {
        one.state.server = "https://spoilt.example";
        return store.transaction(async () => {
          await one.save();
          return work(one, part);
        });
      }),
    );
    await refusedBy(() => spoil.pair("no code"));
    expect(account.state.server).toBe(SERVER);
    await client.close();
  });
});

describe("a page that was left open", () => {
  test("writes nothing over what a newer program wrote, however often it is asked", async () => {
    const name = await madeProfile(), client = await opened(name), newer = await IndexedDbStore.open(name);
    const state = hex(((await newer.get("state", EMPTY)) as SecretBytes).reveal());
    // A map that begins with 1: 1, the version of the state.
    const renewed = unhex(state.replace(/^(a.01)01/, "$102")) as Bytes;
    expect(hex(renewed)).not.toBe(state);
    await newer.put("state", EMPTY, new SecretBytes(renewed));
    await newer.put("contact", utf8("of the newer"), new SecretBytes(utf8("kept")));
    const save: facets.Use = (client.contacts as unknown as { use: facets.Use }).use;
    for (let time = 0; time < 3; time++)
      expect(await refusedBy(() => save(async () => undefined, (account) => account.save()))).toBeInstanceOf(UpdateNeeded);
    await newer.refresh();
    expect((await newer.get("state", EMPTY))?.reveal()).toEqual(renewed);
    expect(await newer.keys("contact")).toEqual([utf8("of the newer")]);
    await newer.close();
    await client.close();
  });

  test("signs nothing under a policy that came since its text was shown", async () => {
    let version = 1;
    const account = { trusted: async () => ({ newest: { hash: Uint8Array.of(version) } }) };
    const signed: number[] = [];
    const room = { prepare: async () => undefined, consentText: async () => `text ${version}`, consent: async () => signed.push(version) };
    const escrow = new facets.Escrow(((_, work) => work(account as never, room as never)) as facets.Use);
    await escrow.consent({ agreed: false }); // whoever shows no text here has shown it elsewhere
    expect(await escrow.consentText()).toBe("text 1");
    version = 2;
    const error = await refusedBy(() => escrow.consent({ agreed: true }));
    expect([error.name, error.wayOut]).toEqual(["NotYet", "Read it again: client.escrow.consentText()"]);
    await escrow.consentText();
    await escrow.consent({ agreed: true });
    expect(signed).toEqual([1, 2]);
  });

  test.each(["give", "veto"] as const)("asks for no address that an id of a request was made to be: %s", async (act) => {
    const requests = await import("../../src/client/vault/share_requests.js"), asked: string[] = [];
    const api = { get: async (path: string) => asked.push(path), post: async (path: string) => asked.push(path) };
    for (const id of ["../../../organisation/pending/x/withdraw#", "a?b", ""])
      await expect(requests[act]({ api } as unknown as Account, id, { code: [] })).rejects.toThrow();
    expect(asked).toEqual([]);
  });
});

describe("a part of the program that is not there", () => {
  const words = ["Failed to fetch dynamically imported module: https://x/y.js", "Importing a module script failed."];

  test("is told as such, before the call or in it, and the next call goes on", async () => {
    const account = await profile(new MemoryStore(ALICE));
    await account.connect("", { fetch: offline });
    const client = new Client(account), { use } = client.contacts as unknown as { use: facets.Use };
    const refusals = [
      use(() => facets.loaded(Promise.reject(new Error("404"))), async () => undefined),
      ...words.map((text) => use(facets.nothing, () => Promise.reject(new TypeError(text)))),
    ];
    for (const refusal of refusals) {
      const error = await refusedBy(() => refusal);
      expect([error.constructor, error.message]).toEqual([Unreachable, "A part of this program could not be loaded."]);
      expect(error.wayOut).toContain("Load this page again");
    }
    await expect(use(facets.nothing, () => Promise.reject(new TypeError("a mistake")))).rejects.toThrow("a mistake");
    expect(await client.contacts.all()).toEqual([]);
    await client.close();
  });
});

describe("two pages with one profile", () => {
  test("see what the other has written", async () => {
    const name = await madeProfile(), [one, other] = [await opened(name), await opened(name)];
    const pinned = { user: new Uint8Array(16).fill(7), address: "bob@acme.test" };
    expect([...(await one.contacts.addresses())]).toEqual([]);
    // As `find` pins it: the server is not asked for this.
    await (one.contacts as unknown as { use: facets.Use }).use(facets.nothing, async ({ store }) => {
      const { encode } = await import("../../src/core/base/encoding.js");
      await store.put("address", utf8(pinned.address), new SecretBytes(encode([pinned.user, 1])));
    });
    expect([...(await other.contacts.addresses()).keys()]).toEqual([pinned.address]);
    await other.contacts.forgetAddress(pinned.address);
    expect([...(await one.contacts.addresses())]).toEqual([]);
    await Promise.all([one.close(), other.close()]);
  });

  test("wait for each other, and no longer than they were told to", async () => {
    const name = await madeProfile(), [one, other] = [await opened(name), await opened(name, 0)];
    let free = (): void => undefined;
    const held = (one.contacts as unknown as { use: facets.Use }).use(
      facets.nothing,
      () => new Promise<void>((resolve) => (free = resolve)),
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await refusedBy(() => other.contacts.all())).toBeInstanceOf(ProfileBusy);
    free();
    await held;
    expect(await other.contacts.all()).toEqual([]);
    await Promise.all([one.close(), other.close()]);
  });
});

const camel = (name: string): string => name.replace(/_([a-z])/g, (_, sign: string) => sign.toUpperCase());

/** The public methods of each class of a Python file, in the names of this SDK. */
function pythonMethods(file: string): [string, string][] {
  const text = readFileSync(new URL(`../../../../holdfast/client/${file}.py`, import.meta.url), "utf8");
  return text.split(/^class /m).slice(1).flatMap((part) => {
    const name = (/^\w+/.exec(part) as RegExpExecArray)[0];
    return [...part.matchAll(/^    def ([a-z]\w*)\(/gm)].map((one): [string, string] => [name, camel(one[1] as string)]);
  });
}

// Acts of officers, who have the command for them.
const NOT_HERE = ["Escrow.answers"];

describe("the names of the Python client", () => {
  test.each(pythonMethods("facets").filter((one) => !NOT_HERE.includes(one.join("."))))("%s.%s", (name, method) => {
    const facet = facets[name as "Devices"].prototype as unknown as Record<string, unknown>;
    expect(typeof facet[method]).toBe("function");
  });

  test.each(pythonMethods("client").filter(([name]) => name === "Client"))("%s.%s", (_, method) => {
    const names = [Client, Client.prototype].flatMap((one) => Object.getOwnPropertyNames(one));
    // Ids that never change are there without asking.
    expect([...names, "tenant", "user"]).toContain(method);
  });
});

function sources(directory: URL): string[] {
  return readdirSync(directory).flatMap((name) => {
    const at = new URL(name, directory);
    return statSync(at).isDirectory() ? sources(new URL(`${name}/`, directory)) : [readFileSync(at, "utf8")];
  });
}

test("every call that a refusal names is there", async () => {
  const account = await profile(new MemoryStore(ALICE));
  await account.connect("", { fetch: offline });
  const client = new Client(account) as unknown as Record<string, Record<string, unknown>>;
  const named = sources(new URL("../../src/", import.meta.url)).flatMap((text) => [
    ...text.replace(/" \+\n\s*"/g, "").matchAll(/(?<![/.])\b(client|Client)\.([a-zA-Z]+)(?:\.([a-zA-Z]+))?(\()?/g),
  ]);
  const missing = named.filter(([, of, first, second, isCall]) => {
    if (of === "Client") return isCall !== undefined && typeof (Client as unknown as Record<string, unknown>)[first as string] !== "function";
    const found = client[first as string];
    return second === undefined ? found === undefined : found?.[second] === undefined;
  });
  expect([...new Set(missing.map(([text]) => text))]).toEqual([]);
});
