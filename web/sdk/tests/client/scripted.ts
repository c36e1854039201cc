// SPDX-License-Identifier: Apache-2.0
/** An account whose server answers from a table, by method and path: for what a real server would never say. */
import type { Bytes } from "../../src/core/base/bytes.js";
import { Account } from "../../src/client/profile/account.js";
import { State } from "../../src/client/profile/state.js";
import { MemoryStore } from "../../src/client/profile/store.js";
import type { Fetch } from "../../src/client/server/transport.js";

export const SERVER = "https://holdfast.example";

/** One request: its JSON, and its query. */
export interface Asked {
  readonly route: string;
  readonly document: Record<string, unknown>;
  readonly query: URLSearchParams;
}

/** What is answered: JSON of a 200, or a whole response; an Error when nothing comes back. */
export type Answering = (asked: Asked) => unknown;

/** Answers by "METHOD path" below /api/v1/; keeps what was asked. */
export class Scripted {
  readonly asked: Asked[] = [];

  constructor(readonly answers: Record<string, Answering>) {}

  /** How often a route was asked. */
  times(route: string): number {
    return this.asked.filter((one) => one.route === route).length;
  }

  readonly fetch: Fetch = async (url, init) => {
    const { pathname, searchParams } = new URL(url), route = `${init.method} ${pathname.replace("/api/v1/", "")}`;
    const body = new TextDecoder().decode(init.body as Bytes), document = body === "" ? {} : JSON.parse(body);
    const asked = { route, document, query: searchParams };
    this.asked.push(asked);
    const answer = await this.answers[route]?.(asked);
    if (answer instanceof Error) throw answer;
    if (answer instanceof Response) return answer;
    return answer === undefined ? refusal(404, "not-found") : Response.json(answer);
  };
}

/** Return a refusal as servers word it (RFC 9457). */
export function refusal(status: number, code: string): Response {
  return Response.json({ type: "about:blank", title: "No", status, code, detail: `Refused: ${code}.` }, { status });
}

/** Return an account, enrolled nowhere, that asks this server. */
export async function accountOf(
  scripted: Scripted,
  of: { readonly tenant: Bytes; readonly user: Bytes },
): Promise<Account> {
  const account = new Account(new MemoryStore(of), new State());
  await account.connect(SERVER, { fetch: scripted.fetch });
  return account;
}
