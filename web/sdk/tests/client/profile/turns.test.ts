// SPDX-License-Identifier: Apache-2.0
/** A profile that was copied, put back or left alone, against a server that counts turns, and against one that lies. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { b64u } from "../../../src/core/base/encoding.js";
import { ClientError } from "../../../src/client/errors.js";
import type { Account } from "../../../src/client/profile/account.js";
import type { Store } from "../../../src/client/profile/store.js";
import { wordsOf } from "../../../src/client/profile/turns.js";
import { Api } from "../../../src/client/server/transport.js";
import { ALICE, Members } from "../../cast/members.js";
import { NOW, URL } from "../../cast/server.js";

const LATE_SECONDS = 120, UNSAID = "?";

/** What a server keeps of one credential. */
interface Kept {
  readonly mark: string;
  readonly before: string;
  readonly breaks: number;
  readonly isBreak: boolean;
  readonly since: number;
}

/** The rule of docs/formats/requests.md (Turns), as a server has it. */
function follow(kept: Kept, said: string | null, now: number): Kept {
  if (said === null && kept.mark === "") return kept;
  const [mark = "", before = ""] = said === null ? [UNSAID, ""] : said.split(".");
  if (mark === kept.mark) return kept;
  const isBack = mark === kept.before;
  if (isBack && !kept.isBreak && now <= kept.since + LATE_SECONDS) return kept;
  if (kept.mark === "" || (before === kept.mark && !isBack)) return { ...kept, mark, before: kept.mark, isBreak: false, since: now };
  return { mark, before: kept.mark, breaks: kept.breaks + 1, isBreak: true, since: now };
}

/** Stands before a server, and keeps the turns of whoever asks. */
class Counting {
  kept: Kept = { mark: "", before: "", breaks: 0, isBreak: false, since: 0 };
  lie = (mark: string, breaks: number): string => `${mark}.${breaks}`;
  isLost = false;
  isAway = false;
  isDeaf = false;
  now = NOW;

  constructor(readonly world: Members) {}

  readonly fetch: typeof this.world.server.fetch = async (url, init) => {
    if (this.isAway) throw new TypeError("nobody there");
    const answer = await this.world.server.fetch(url, init), said = new Headers(init.headers).get("holdfast-turn");
    if (this.isDeaf) return answer;
    this.kept = follow(this.kept, said, this.now);
    if (this.isLost) throw new TypeError("lost");
    if (said === null) return answer;
    const headers = new Headers(answer.headers), breaks = this.kept.isBreak ? this.kept.breaks : 0;
    headers.set("holdfast-turn", this.lie(said.split(".")[0] as string, breaks));
    return new Response(answer.body, { status: answer.status, headers });
  };
}

let founded: Members, first: Account;
beforeAll(async () => {
  founded = new Members();
  first = await founded.enrolled(ALICE);
});

let world: Members, counting: Counting, store: Store;
beforeEach(async () => {
  const [again, account] = await founded.again(first);
  world = again;
  store = await world.copied(account as Account);
  counting = new Counting(world);
});

const ask = (account: Pick<Account, "api">): Promise<unknown> =>
  account.api.get("devices").catch((error: unknown) => {
    if (!(error instanceof ClientError)) throw error;
  });

/** Open a profile once more, and ask its server for something. */
async function opened(kept: Store): Promise<Account> {
  const account = await world.opened(kept, counting.fetch);
  await ask(account);
  return account;
}
const copied = async (): Promise<Store> => world.copied(await world.opened(store, counting.fetch));
const broken = async (kept: Store): Promise<boolean> => (await opened(kept)).isCopyFound;

describe("a profile", () => {
  test("that is alone is told nothing", async () => {
    for (let time = 0; time < 4; time++) {
      const account = await opened(store);
      expect([account.isCopyFound, (await account.turn()).breaks]).toEqual([false, 0]);
    }
  });

  test("that was copied and is used on two machines is told to both", async () => {
    await opened(store);
    const theirs = await copied();
    expect(await broken(store)).toBe(false);
    const second = await opened(theirs), one = await opened(store);
    for (const account of [one, second]) {
      expect(account.isCopyFound).toBe(true);
      const [said, wayOut] = wordsOf(await account.turn());
      expect(said).toContain("another machine");
      expect(wayOut).toContain("client.rotate");
    }
    expect(wordsOf(await (await opened(theirs)).turn())[0]).toContain("2 times");
  });

  test("that stays open is told of a copy that was opened after it", async () => {
    const app = await opened(store), theirs = await opened(await copied());
    counting.now += LATE_SECONDS + 1;
    for (const account of [app, theirs]) {
      await ask(account);
      expect(account.isCopyFound).toBe(true);
    }
  });

  test("whose key is used without a turn is told so", async () => {
    const app = await opened(store), credential = { device: app.deviceText, key: await app.signingKey() };
    const thief = new Api(URL, { credential, fetch: counting.fetch, clock: app.clock });
    await ask({ api: thief });
    await ask(app);
    expect([app.isCopyFound, await broken(store)]).toEqual([true, false]);
    await ask({ api: thief });
    expect(await broken(store)).toBe(true);
  });

  test("that was put back is told once, and goes on", async () => {
    const backup = await copied();
    for (let time = 0; time < 3; time++) await opened(store);
    expect(await broken(backup)).toBe(true);
    for (let time = 0; time < 3; time++) {
      const again = await opened(backup);
      expect([again.isCopyFound, (await again.turn()).breaks]).toEqual([false, 1]);
    }
  });

  test("whose answers were lost, or which had no network, is no copy", async () => {
    await opened(store);
    for (const [isLost, isAway] of [[true, false], [false, true], [true, false], [false, true]] as const) {
      Object.assign(counting, { isLost, isAway });
      for (let time = 0; time < 2; time++) await opened(store);
      Object.assign(counting, { isLost: false, isAway: false });
      for (let time = 0; time < 2; time++) expect(await broken(store)).toBe(false);
    }
  });

  test("is told by the next answer of a break whose answer was lost", async () => {
    await opened(store);
    const theirs = await copied();
    await opened(store);
    counting.isLost = true;
    await opened(theirs);
    counting.isLost = false;
    expect(await broken(theirs)).toBe(true);
  });
});

describe("two pages that share a profile", () => {
  test("are one: each says what the other one's opening has said last", async () => {
    const one = await opened(store), other = await opened(store);
    for (let time = 0; time < 3; time++)
      for (const page of [one, other]) {
        counting.now += LATE_SECONDS + 1;
        await page.reload(); // as a client does when another page has written
        await ask(page);
        expect([one.isCopyFound, other.isCopyFound, counting.kept.breaks]).toEqual([false, false, 0]);
      }
  });

  test("are both told of a copy elsewhere, which counts once", async () => {
    const one = await opened(store), other = await opened(store), theirs = await copied();
    await opened(theirs);
    for (const page of [other, one]) {
      counting.now += LATE_SECONDS + 1;
      await page.reload();
      await ask(page);
      expect([page.isCopyFound, (await page.turn()).breaks]).toEqual([true, 1]);
    }
    expect((await opened(store)).isCopyFound).toBe(false);
  });
});

describe("a server", () => {
  test.each(["", "nonsense", "AAAAAAAAAAA.7", "AAAAAAAAAAA", "AAAAAAAAAAA.x", "A".repeat(5000), `${"A".repeat(11)}.${"9".repeat(40)}`])(
    "that speaks of nobody's turn changes nothing (%#)",
    async (field) => {
      counting.lie = () => field;
      const before = await opened(store);
      expect([before.isCopyFound, (await before.turn()).mark.length]).toEqual([false, 0]);
      counting.lie = (mark, breaks) => `${mark}.${breaks}`;
      expect(await broken(store)).toBe(false);
    },
  );

  test("that lies of a copy costs a look, and nothing else", async () => {
    counting.lie = (mark) => `${mark}.5`;
    const account = await opened(store);
    for (let time = 0; time < 3; time++) await ask(account);
    expect([account.isCopyFound, (await account.turn()).breaks]).toEqual([true, 1]);
    counting.lie = (mark, breaks) => `${mark}.${breaks}`;
    expect(await broken(store)).toBe(false);
  });

  test("that knows no turns is served as before", async () => {
    counting.isDeaf = true;
    await opened(store);
    const turn = await (await opened(store)).turn();
    expect([b64u(turn.next).length, turn.mark.length]).toEqual([11, 0]);
  });
});
