// SPDX-License-Identifier: Apache-2.0
/** The signed connection: what is signed, what is retried, what is refused, and how long anything is waited for. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Bytes, concat, utf8 } from "../../../src/core/base/bytes.js";
import { KeyKind, type SigningKind, SigningKey, verify } from "../../../src/core/crypto/keys.js";
import { contentDigest, parseSignature } from "../../../src/core/signed/requests.js";
import { AnswerRefused, Problem, ServerReadOnly, Unreachable, WrongInput } from "../../../src/client/errors.js";
import { FLOOR, Pace, PATIENCE_SECONDS, TooSlow } from "../../../src/client/server/pace.js";
import { Api, checkServer, Clock, type Fetch } from "../../../src/client/server/transport.js";

const SERVER = "http://127.0.0.1:8123", DEVICE = "6f2cbd5e-3d0b-4a5e-9a53-6ad1f2a9d111";

interface Asked {
  readonly url: string;
  readonly init: RequestInit;
  readonly headers: Headers;
}

/** Answers from a list, and keeps every request. */
class Answers {
  readonly asked: Asked[] = [];

  constructor(readonly left: (Response | Error)[]) {}

  readonly fetch: Fetch = async (url, init) => {
    this.asked.push({ url, init, headers: new Headers(init.headers) });
    const next = this.left.shift() as Response | Error;
    if (next instanceof Error) throw next;
    return next;
  };
}

const json = (status: number, body: unknown, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(body), { status, headers });
const problem = (status: number, extra: Record<string, unknown> = {}, headers: Record<string, string> = {}): Response =>
  json(status, { type: "x", title: "No", status, code: "denied", detail: "Not you.", ...extra }, headers);
const busy = (seconds: number): Response =>
  problem(429, { code: "too-many-requests", detail: "Too many requests." }, { "retry-after": String(seconds) });

interface Made {
  readonly api: Api;
  readonly answers: Answers;
  readonly slept: number[];
}

function made(left: (Response | Error)[], { key, clock }: { key?: SigningKey; clock?: Clock } = {}): Made {
  const answers = new Answers(left), slept: number[] = [];
  const credential = key && { device: DEVICE, key };
  const api = new Api(SERVER, { credential, clock, fetch: answers.fetch, sleep: async (seconds) => void slept.push(seconds) });
  return { api, answers, slept };
}

const headersOf = (answers: Answers, name: string): Set<string | null> => new Set(answers.asked.map(({ headers }) => headers.get(name)));

describe("what is sent", () => {
  test.each<[string, SigningKind]>([["Ed25519", KeyKind.ED25519], ["P-256", KeyKind.P256_SIGNING]])(
    "is signed over method, address and body with %s",
    async (_, kind) => {
      const key = await SigningKey.generate(kind), { api, answers } = made([json(201, {}), json(200, {})], { key });
      await api.post("cases", { case: "AAAA", name: "é" });
      await api.get("audit/proof", { query: { index: "3", size: "9 &" } });
      const [posted, got] = answers.asked as [Asked, Asked];
      for (const [method, { url, headers }] of [["POST", posted], ["GET", got]] as const) {
        const [said, signature] = parseSignature(method, headers.get("signature-input") ?? "", headers.get("signature") ?? "");
        await verify(key.public, signature, said.base(url, headers.get("content-digest") ?? ""));
        expect(said.keyid).toBe(DEVICE);
        await expect(verify(key.public, signature, said.base(`${url}x`, headers.get("content-digest") ?? ""))).rejects.toThrow();
      }
      expect(got.url).toBe(`${SERVER}/api/v1/audit/proof?index=3&size=9%20%26`);
      expect(posted.headers.get("content-digest")).toBe(contentDigest(posted.init.body as Bytes));
      expect(new TextDecoder().decode(posted.init.body as Bytes)).toBe('{"case":"AAAA","name":"\\u00e9"}');
    },
  );

  test("carries no cookie, keeps no cache and follows nothing", async () => {
    const { api, answers } = made([json(200, {})]);
    await api.get("devices");
    expect(answers.asked[0]?.init).toMatchObject({
      credentials: "omit", cache: "no-store", redirect: "manual", referrerPolicy: "no-referrer",
    });
    expect(answers.asked[0]?.headers.get("signature")).toBeNull();
  });

  test("says whose turn it is with each request, and hears of it in each answer", async () => {
    const heard: number[] = [], answers = new Answers([json(200, {}, { "holdfast-turn": "AAAAAAAAAAA.3" }), problem(403, {}, { "holdfast-turn": "x" })]);
    const turns = { say: async () => "AAAAAAAAAAA.", hear: async ({ breaks }: { breaks: number }) => void heard.push(breaks) };
    const api = new Api(SERVER, { credential: { device: DEVICE, key: await SigningKey.generate(), turns }, fetch: answers.fetch });
    await api.get("devices");
    await expect(api.get("devices")).rejects.toThrow(Problem);
    expect(heard).toEqual([3]);
    expect(headersOf(answers, "holdfast-turn")).toEqual(new Set(["AAAAAAAAAAA."]));
    expect(answers.asked[0]?.headers.get("signature-input")).toContain('"holdfast-turn"');
  });

  test("asks for a lost answer again with the same key and another nonce", async () => {
    const left = [new TypeError("lost"), problem(503, { code: "hsm-unavailable" }), json(201, {})];
    const { api, answers } = made(left, { key: await SigningKey.generate() });
    await api.post("cases", { case: "AAAA" });
    expect([headersOf(answers, "idempotency-key").size, headersOf(answers, "signature-input").size]).toEqual([1, 3]);
  });

  test("never shares an idempotency key between two acts, and keeps one that was given", async () => {
    const { api, answers } = made([json(201, {}), json(201, {}), json(201, {})]);
    await api.post("cases", {});
    await api.post("cases", {});
    await api.post("cases", {}, { key: "mine", ifMatch: '"7"' });
    expect(headersOf(answers, "idempotency-key").size).toBe(3);
    expect([answers.asked[2]?.headers.get("idempotency-key"), answers.asked[2]?.headers.get("if-match")]).toEqual(["mine", '"7"']);
  });

  test("asks once where a lost answer is given to nobody again", async () => {
    const { api, answers } = made([new TypeError("lost"), json(201, {})]);
    await expect(api.post("cases", {}, { isRepeated: false })).rejects.toThrow(Unreachable);
    expect(answers.asked).toHaveLength(1);
  });
});

describe("a refusal", () => {
  test("is not asked for again, and names code, field and way out", async () => {
    const { api, answers } = made([problem(403, { errors: [{ field: "case", detail: "Not you." }] })]);
    const caught = (await api.get("cases").catch((error: unknown) => error)) as Problem;
    expect([caught.code, caught.field, caught.status, caught.message]).toEqual(["denied", "case", 403, "Not you."]);
    expect(caught.wayOut).not.toBe("");
    expect(answers.asked).toHaveLength(1);
  });

  test("of a server that does not say why is an answer outside the protocol", async () => {
    for (const answer of [new Response("<html>", { status: 500 }), json(404, {}), json(400, { code: 7 })])
      await expect(made([answer]).api.get("cases")).rejects.toThrow(AnswerRefused);
  });

  test("of a dead server comes after a bounded number of attempts", async () => {
    const { api, answers } = made(Array.from({ length: 20 }, () => new TypeError("refused")));
    await expect(api.get("cases")).rejects.toThrow(Unreachable);
    expect(answers.asked).toHaveLength(5);
  });

  test.each([1, 7, 30])("that asks to wait %i seconds is waited for, and no less", async (asked) => {
    const { api, slept } = made([busy(asked), busy(asked), json(201, {})]);
    await api.post("cases", {});
    expect(slept).toHaveLength(2);
    expect(slept.every((one) => asked <= one && one <= 36)).toBe(true);
  });

  test.each([[503, "unavailable"], [503, "hsm-unavailable"], [502, "x"], [504, "x"]])("of a part that is away (%i %s) is told within ten seconds", async (status, code) => {
    for (const asked of ["", "1", "3", "5", "8", "9"]) {
      const { api, slept } = made(Array.from({ length: 9 }, () => problem(status, { code }, asked === "" ? {} : { "retry-after": asked })));
      await expect(api.get("cases")).rejects.toThrow(Problem);
      expect(slept.reduce((sum, one) => sum + one, 0)).toBeLessThan(10);
      expect(slept.length > 0).toBe(asked !== "9");
    }
  });

  test("of a server that waits for its officers is not asked for again at once", async () => {
    const { api, answers, slept } = made(Array.from({ length: 9 }, () => problem(503, { code: "log-restored" })));
    const caught = (await api.post("cases", {}).catch((error: unknown) => error)) as ServerReadOnly;
    expect(caught).toBeInstanceOf(ServerReadOnly);
    expect([answers.asked.length, slept.length, caught.wayOut.includes("accept-log")]).toEqual([1, 0, true]);
  });

  test.each([[31, "31 seconds"], [700, "12 minutes"], [7200, "2 hours"], [10 ** 9, "24 hours"]])("that asks to wait %i seconds is told, and not tried meanwhile", async (seconds, said) => {
    const { api, answers, slept } = made(Array.from({ length: 9 }, () => busy(seconds)));
    const caught = (await api.get("cases").catch((error: unknown) => error)) as Problem;
    expect([answers.asked.length, slept.length, caught.wayOut, caught.retryAfter]).toEqual([1, 0, `Try again in ${said}.`, Math.min(seconds, 86_400)]);
  });

  test("of a server that is always busy comes after five attempts, each after its wait", async () => {
    const { api, answers, slept } = made(Array.from({ length: 9 }, () => busy(20)));
    await expect(api.get("cases")).rejects.toMatchObject({ wayOut: "Try again in 20 seconds." });
    expect([answers.asked.length, slept.length]).toEqual([5, 4]);
    expect(Math.min(...slept)).toBeGreaterThanOrEqual(20);
  });

  test("of an act that is under way is asked for again under its key", async () => {
    const { api, answers } = made([problem(409, { code: "conflict" }), json(201, { a: 1 })]);
    expect((await api.post("cases", {})).number("a")).toBe(1);
    expect(headersOf(answers, "idempotency-key").size).toBe(1);
  });

  test("of a limit that is reached is told at once in the server's words", async () => {
    const { api, slept } = made([problem(409, { code: "limit-reached", detail: "Fifty are kept. End some." })]);
    await expect(api.post("devices", {})).rejects.toThrow(/^Fifty are kept\. End some\.$/);
    expect(slept).toEqual([]);
  });
});

describe("clocks", () => {
  const early = (): Response => problem(401, { code: "unauthenticated", server_time: "2027-01-15T07:00:00Z" });

  test("are corrected once by a 401, and expiry is never judged by an earlier time", async () => {
    const clock = new Clock(() => 1_800_000_000_000), key = await SigningKey.generate();
    const { api, answers } = made([early(), json(200, {})], { key, clock });
    await api.get("cases");
    expect([clock.forRequests(), clock.now(), clock.earliest(), clock.latest()]).toEqual([1_799_996_400, 1_800_000_000, 1_799_996_400, 1_800_000_000]);
    expect(answers.asked[1]?.headers.get("signature-input")).toContain("created=1799996400");
    await expect(made([early()], { key, clock }).api.get("cases")).rejects.toThrow(Problem);
  });

  test("that are off by more than a day are told, and not corrected", async () => {
    const clock = new Clock(() => 1_800_100_000_000), key = await SigningKey.generate();
    await expect(made([early()], { key, clock }).api.get("cases")).rejects.toMatchObject({ wayOut: expect.stringContaining("ahead of the server's") });
    expect([clock.offset, clock.isOff]).toEqual([0, true]);
  });

  test("date nothing into the future for a server that is ahead", () => {
    const clock = new Clock(() => 1_800_000_000_000);
    expect(clock.correct(1_800_007_200)).toBe(true);
    expect([clock.forRequests(), clock.earliest(), clock.latest()]).toEqual([1_800_007_200, 1_800_000_000, 1_800_007_200]);
  });

  test.each([90_000, -90_000, 36_500 * 86_400])("take no correction of %i seconds", (seconds) => {
    const clock = new Clock(() => 4_800_000_000_000);
    expect(clock.correct(4_800_000_000 - seconds)).toBe(false);
    expect([clock.offset, clock.forRequests(), clock.said, clock.isOff]).toEqual([0, 4_800_000_000, -seconds, true]);
    expect(clock.inWords()).toContain(seconds > 0 ? "ahead of" : "behind");
  });

  test.each<[number | undefined, boolean]>([[0, true], [300, true], [-300, true], [301, false], [-301, false], [undefined, false]])("are confirmed by a head %s seconds off: %s", (signedAt, isConfirmed) => {
    let now = 1_800_000_000_000;
    const clock = new Clock(() => now);
    expect(clock.confirmed()).toBeUndefined();
    clock.correct(1_800_003_600);
    clock.confirm(signedAt === undefined ? undefined : 1_800_000_000 + signedAt);
    expect(clock.confirmed()).toBe(isConfirmed ? 1_800_000_000 : undefined);
    now += 700_000;
    expect(clock.confirmed()).toBeUndefined();
  });

  test("that begin before 1970 say 1970", () => {
    expect(new Clock(() => -5).now()).toBe(0);
  });
});

describe("a list", () => {
  const page = (names: string[], more: boolean, also: Record<string, unknown> = {}): Response =>
    json(200, { rows: names.map((name) => ({ name })), more, ...also });
  const all = async (api: Api): Promise<string[]> => {
    const found: string[] = [];
    for await (const row of api.pages("rows", "rows", "name", { query: { of: "x" } })) found.push(row.text("name"));
    return found;
  };

  test("is read page by page to its end, also over a page without rows", async () => {
    const { api, answers } = made([page(["a", "b"], true), page([], true, { last: "k" }), page(["c"], false)]);
    expect(await all(api)).toEqual(["a", "b", "c"]);
    expect(answers.asked.map(({ url }) => new URL(url).search)).toEqual(["?of=x", "?of=x&after=b", "?of=x&after=k"]);
  });

  test("without an end is refused", async () => {
    const api = new Api(SERVER, { fetch: async () => page(["a"], true) });
    await expect(all(api)).rejects.toThrow("no end");
  });
});

test.each(["http://holdfast.example", "ftp://127.0.0.1", "https://", "https:holdfast.example", "https:\\\\holdfast.example", "https://a@b.example", "https://b.example/?x=1", "https://b.example#x", "https://b .example", "javascript:alert(1)", ""])("%s is no server's address", (address) => {
  expect(() => checkServer(address)).toThrow(WrongInput);
  expect(() => checkServer(address)).toThrow("server address");
});

test.each([[" https://Holdfast.Example/ ", "https://holdfast.example"], ["http://localhost:8000", "http://localhost:8000"], ["http://[::1]:1/a/", "http://[::1]:1/a"], ["https://x.example:443/", "https://x.example"]])("%s is a server's address", (typed, address) => {
  expect(checkServer(typed)).toBe(address);
});

describe("patience", () => {
  test("is earned by octets and never hoarded", () => {
    let now = 0;
    const pace = new Pace(() => now);
    pace.begin();
    now = 119_000;
    pace.came(10 * FLOOR);
    expect(pace.left()).toBe(11);
    pace.came(10 ** 9);
    expect(pace.left()).toBe(PATIENCE_SECONDS);
    now += 121_000;
    expect(() => pace.came(0)).toThrow(TooSlow);
    expect(() => pace.within(30)).toThrow(TooSlow);
  });

  describe("in time that is turned by hand", () => {
    beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
    afterEach(() => void vi.useRealTimers());

    /** A body that gives `octets` every so many milliseconds, for ever. */
    const trickle = (octets: number, every: number): Response =>
      new Response(new ReadableStream({ pull: (to) => new Promise((resolve) => setTimeout(() => resolve(to.enqueue(new Uint8Array(octets).fill(32))), every)) }));
    const settled = async (work: Promise<unknown>, seconds: number): Promise<unknown> => {
      const end = work.then(() => "done", (error: unknown) => error);
      await vi.advanceTimersByTimeAsync(seconds * 1000);
      return Promise.race([end, Promise.resolve("still waiting").then((said) => said)]);
    };
    const asked = (fetch: Fetch): [Api, AbortSignal[]] => {
      const signals: AbortSignal[] = [];
      const api = new Api(SERVER, { fetch: (url, init) => (signals.push(init.signal as AbortSignal), fetch(url, init)), sleep: async () => undefined });
      return [api, signals];
    };

    test.each<[string, Fetch, number]>([
      ["silence", () => new Promise(() => undefined), 125],
      ["a body, octet by octet", async () => trickle(1, 1000), 125],
      ["a body that stops", async () => new Response(new ReadableStream({ start: (to) => to.enqueue(utf8("{")) })), 125],
      ["a refusal, octet by octet", async () => new Response(trickle(1, 1000).body, { status: 403 }), 125],
    ])("%s ends it, and breaks the connection off", async (_, fetch, seconds) => {
      const [api, signals] = asked(fetch), end = await settled(api.get("devices"), seconds);
      expect(end).toBeInstanceOf(Unreachable);
      expect((end as Unreachable).message).toContain("timed out");
      expect(signals.every((signal) => signal.aborted)).toBe(true);
    });

    test("lasts as long as a download keeps pace, and the caller's own time does not count", async () => {
      const [api] = asked(async () => {
        let left = 60;
        return new Response(new ReadableStream({ pull: (to) => new Promise((resolve) => setTimeout(() => resolve(left-- > 0 ? to.enqueue(new Uint8Array(5 * FLOOR)) : to.close()), 4000)) }));
      });
      let got = 0;
      const work = (async () => {
        for await (const piece of api.download("audit/export", { maximum: 10 ** 9 })) {
          got += piece.length;
          await new Promise((resolve) => setTimeout(resolve, 200_000));
        }
      })();
      expect(await settled(work, 60 * 210)).toBe("done");
      expect(got).toBe(60 * 5 * FLOOR);
    });

    test("is over when the account is closed", async () => {
      const [api, signals] = asked((_, init) => new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")))));
      const work = api.get("devices");
      await vi.advanceTimersByTimeAsync(1);
      api.close();
      expect(await settled(work, 1)).toBeInstanceOf(Unreachable);
      expect(signals).toHaveLength(1);
    });
  });
});

describe("over a real socket", () => {
  let server: Server, serve: (request: IncomingMessage, response: ServerResponse) => void, requests: string[];

  beforeEach(async () => {
    requests = [];
    server = createServer((request, response) => {
      requests.push(`${request.method} ${request.url}`);
      serve(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  const api = (): Api => new Api(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { sleep: async () => undefined });

  test.each([301, 302, 307, 308])("a redirect (%i) is refused, and nothing is sent to where it points", async (status) => {
    serve = (_, response) => response.writeHead(status, { location: "/elsewhere" }).end();
    await expect(api().put("vault", { blob: "AAAA" })).rejects.toThrow("follows no redirects");
    expect(requests).toEqual(["PUT /api/v1/vault"]);
  });

  test("an answer without a body is one", async () => {
    serve = (_, response) => response.writeHead(204, { etag: '"7"' }).end();
    const reply = await api().delete("vault");
    expect([reply.status, reply.body.length, reply.headers.get("etag")]).toEqual([204, 0, '"7"']);
  });

  test("an answer that breaks off is asked for again, and the whole one believed", async () => {
    serve = (_, response) => {
      if (requests.length > 2) return response.end('{"a":1}');
      response.writeHead(200, { "content-length": "10" });
      return response.write("{", () => response.destroy());
    };
    expect((await api().get("devices")).number("a")).toBe(1);
    expect(requests).toHaveLength(3);
  });

  test.each([["plain", (data: Buffer) => data, {}], ["packed", gzipSync, { "content-encoding": "gzip" }]] as const)("an answer that is too long (%s) is cut off at its bound", async (_, pack, headers) => {
    serve = (_, response) => response.writeHead(200, headers).end(pack(Buffer.alloc(50_000_000, " ")));
    await expect(api().get("devices", { maximum: 1_000_000 })).rejects.toThrow("longer than 1000000 bytes");
    const read = async (): Promise<Bytes> => {
      const pieces: Bytes[] = [];
      for await (const piece of api().download("audit/export", { maximum: 1_000_000 })) pieces.push(piece);
      return concat(...pieces);
    };
    await expect(read()).rejects.toThrow("longer than 1000000 bytes");
  });

  test("a download that is refused says why", async () => {
    serve = (_, response) => response.writeHead(404).end(JSON.stringify({ code: "not-found", title: "None", detail: "" }));
    await expect(api().download("audit/export", { maximum: 10 }).next()).rejects.toMatchObject({ code: "not-found", message: "None" });
  });
});
