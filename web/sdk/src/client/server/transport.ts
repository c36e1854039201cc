// SPDX-License-Identifier: Apache-2.0
/**
 * Signed requests to one server, retried where that is safe, answered by typed values or typed refusals.
 *
 * docs/formats/requests.md (RFC 9421 signatures), and RFC 9457 problems. Follows no redirect, sends and keeps no cookie,
 * reads and writes no cache, and takes no address from an answer: no secret goes where a server points. Reads every answer
 * under a bound on its octets and under `pace`: no server decides how much or how long a client waits.
 */
import { type Bytes, concat, EMPTY, utf8 } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { Malformed } from "../../core/base/errors.js";
import { trimmed } from "../../core/base/typed.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import type { Signer } from "../../core/signed/cose.js";
import { contentDigest, NONCE_SIZE, SignatureParameters, TURN } from "../../core/signed/requests.js";
import { type Answered, parseAnswered } from "../../core/signed/turns.js";
import { AnswerRefused, Problem, ServerReadOnly, WrongInput } from "../errors.js";
import { sleep } from "../waiting.js";
import { type Answer, MAX_ANSWER, parse } from "./answers.js";
import { Clock, SET_THE_CLOCK } from "./clock.js";
import { explain, Failed } from "./failures.js";
import { FLOOR, Pace, TooSlow } from "./pace.js";

export { parseTime } from "./answers.js";
export { Clock, SET_THE_CLOCK } from "./clock.js";

/** For one silence: before the answer begins, or between two pieces of it. */
export const TIMEOUT_SECONDS = 30;
/** After a fifth of a second, doubled each time: a server that restarts is back by then. */
export const ATTEMPTS = 5;
// Waited for by itself between two attempts; four of these are as long as a person waits for an act.
const MAX_WAIT_SECONDS = 30;
// A part of the server that is away, such as its database, is waited for as long as one that starts again takes. Then a
// person is told, while they still look.
const AWAY_SECONDS = 8;
const MOST_RETRY_AFTER = 86_400;
const MOST_PAGES = 1000; // of a list: a hundred rows each, more than one person's device has any use for
// Too many, or a proxy whose server is away: the same request may pass later.
const RETRIED_STATUS: ReadonlySet<number> = new Set([429, 502, 503, 504]);
const LOCAL_HOSTS: ReadonlySet<string> = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** Whose turn it is, said with each request and heard in each answer (`core/signed/turns`). */
export interface TurnKeeper {
  /** Return the field holdfast-turn of a request. */
  say(): Promise<string>;
  /** Take what an answer says of it. */
  hear(answered: Answered): Promise<void>;
}

/** What signs requests: the device's id and its identity signing key; and who keeps its turns, if anybody does. */
export interface Credential {
  /** A UUID's text. */
  readonly device: string;
  readonly key: Signer;
  readonly turns?: TurnKeeper | undefined;
}

/** One successful answer: status, headers with lower-case names, body. */
export class Reply {
  constructor(
    readonly status: number,
    readonly headers: ReadonlyMap<string, string>,
    readonly body: Bytes,
  ) {}

  /** Return the body as one strict JSON object. Throws AnswerRefused. */
  json(): Answer {
    return parse(this.body);
  }
}

/** What goes out as JSON. */
export type Document = Readonly<Record<string, unknown>>;
/** As the browser's own; what an app or a test gives in its place is called in the same way. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** How an Api comes to its server. */
export interface ApiOptions {
  readonly credential?: Credential | undefined;
  readonly clock?: Clock | undefined;
  readonly fetch?: Fetch | undefined;
  /** Waits so many seconds. */
  readonly sleep?: ((seconds: number) => Promise<void>) | undefined;
}

/**
 * Return a server's address without its trailing slash, as the browser writes it.
 *
 * Throws WrongInput unless it is https or this machine.
 */
export function checkServer(url: string): string {
  const address = trimmed(url);
  let read: URL | undefined;
  try {
    read = new URL(address);
  } catch {
    // Told below.
  }
  // A browser takes many spellings for an address: what is typed here is kept, so it has to be a plain one.
  if (read === undefined || !/^[a-z]+:\/\/[^/?#@\\]+(\/[^?#@\\]*)?$/i.test(address) || read.hostname === "")
    throw new WrongInput("a server address looks like https://holdfast.example");
  if (read.protocol !== "https:" && !(read.protocol === "http:" && LOCAL_HOSTS.has(read.hostname)))
    throw new WrongInput("a server address starts with https:// (http:// only for this machine)");
  return read.href.replace(/\/+$/, "");
}

/** How an act is kept to one: `Api.post` says what each means. */
export interface Once {
  readonly key?: string;
  readonly ifMatch?: string | undefined;
  readonly isRepeated?: boolean;
  readonly isOnceByItself?: boolean;
}

interface Ask {
  readonly method: string;
  readonly path: string;
  readonly body: Bytes;
  readonly headers: Readonly<Record<string, string>>;
  readonly maximum: number;
  readonly isRepeated?: boolean;
}

/**
 * The REST API of one server, as one device or, before enrolment, as nobody.
 *
 * Every method rejects with Problem for a refusal, Unreachable when no whole answer came in time, with retries, and
 * AnswerRefused for an answer outside the protocol.
 */
export class Api {
  readonly server: string;
  readonly clock: Clock;
  credential: Credential | undefined;
  readonly #fetch: Fetch;
  readonly #sleep: (seconds: number) => Promise<void>;
  readonly #ended = new AbortController();

  constructor(server: string, options: ApiOptions = {}) {
    this.server = checkServer(server);
    this.credential = options.credential;
    this.clock = options.clock ?? new Clock();
    // Called without a receiver, as the browser's own has to be.
    this.#fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init));
    this.#sleep = options.sleep ?? sleep;
  }

  /** Break off what is under way. Nothing may be asked afterwards. */
  close(): void {
    this.#ended.abort();
  }

  /** Read one document of at most `maximum` bytes. */
  async get(path: string, { query = {}, maximum = MAX_ANSWER }: { query?: Query; maximum?: number } = {}): Promise<Answer> {
    return (await this.#call({ method: "GET", path: withQuery(path, query), body: EMPTY, headers: {}, maximum })).json();
  }

  /**
   * Read a list page by page, following `more`: the rows under `name`, each of which names itself by `key`.
   *
   * query: what the list is asked with, on every page. An answer that says `last` goes on from there, though its page has
   * no row. Rejects with AnswerRefused for a server that always has more.
   */
  async *pages(path: string, name: string, key: string, { query = {} }: { query?: Query } = {}): AsyncGenerator<Answer> {
    let after: Query = {};
    for (let page = 0; page < MOST_PAGES; page++) {
      const answer = await this.get(path, { query: { ...query, ...after } });
      let last = "";
      for (const row of answer.many(name)) {
        last = row.text(key);
        yield row;
      }
      if (!answer.flag("more")) return;
      if (answer.has("last")) last = answer.text("last");
      if (last === "") return;
      after = { after: last };
    }
    throw new AnswerRefused(`The server's list of ${name} has no end.`);
  }

  /**
   * Perform one act once, however often the network makes us ask.
   *
   * key: the idempotency key, for an act that must stay one act across runs of this program. ifMatch: what the act
   * replaces, as it was last read. isRepeated: false for an act whose lost answer is given to nobody again. isOnceByItself:
   * of what the server knows again by its content, for which it need keep no key and no answer.
   */
  async post(
    path: string,
    document: Document,
    { key, ifMatch, isRepeated = true, isOnceByItself = false }: Once = {},
  ): Promise<Answer> {
    const headers: Record<string, string> = isOnceByItself ? {} : { "idempotency-key": key ?? freshKey() };
    if (ifMatch !== undefined) headers["if-match"] = ifMatch;
    const ask = { method: "POST", path, body: bodyOf(document), headers, maximum: MAX_ANSWER, isRepeated };
    return (await this.#call(ask)).json();
  }

  /** Perform one act whose answer has no body. */
  send(path: string, document: Document): Promise<Reply> {
    const headers = { "idempotency-key": freshKey() };
    return this.#call({ method: "POST", path, body: bodyOf(document), headers, maximum: MAX_ANSWER });
  }

  /** Write one document, which is idempotent by itself. */
  put(path: string, document: Document, { ifMatch }: { ifMatch?: string | undefined } = {}): Promise<Reply> {
    const headers: Record<string, string> = ifMatch === undefined ? {} : { "if-match": ifMatch };
    return this.#call({ method: "PUT", path, body: bodyOf(document), headers, maximum: MAX_ANSWER });
  }

  /** Delete one document. */
  delete(path: string): Promise<Reply> {
    return this.#call({ method: "DELETE", path, body: EMPTY, headers: {}, maximum: MAX_ANSWER });
  }

  /**
   * Read one long document in pieces, `maximum` bytes in all, without retrying.
   *
   * It may take as long as it keeps pace; the time in which the caller works on a piece does not count.
   */
  async *download(path: string, { maximum }: { maximum: number }): AsyncGenerator<Bytes> {
    const pace = new Pace();
    pace.begin();
    try {
      const ask = { method: "GET", path, body: EMPTY, headers: {}, maximum };
      const [response, stop] = await this.#begin(ask, pace);
      try {
        if (response.status !== 200) throw this.#problem(await this.#whole(response, MAX_ANSWER, pace, stop));
        for await (const piece of piecesOf(response, maximum, pace, stop)) {
          const left = pace.left();
          yield piece;
          pace.begin(left);
        }
      } finally {
        stop.abort();
      }
    } catch (error) {
      throw error instanceof Failed ? explain(this.server, error) : error;
    }
  }

  async #call(ask: Ask): Promise<Reply> {
    const { isRepeated = true } = ask, pace = new Pace();
    let isCorrected = false, wait = 0.2, slept = 0;
    pace.begin(); // once for all attempts: five slow answers are no more bearable than one
    for (let attempt = 1; ; attempt++) {
      let asked = 0;
      try {
        const reply = await this.#once(ask, pace);
        if (reply.status < 300) {
          if (this.credential !== undefined) this.clock.agreed();
          return reply;
        }
        if (reply.status === 401 && !isCorrected && this.#correctClock(reply)) {
          isCorrected = true;
          continue;
        }
        const problem = this.#problem(reply);
        asked = retryAfter(reply);
        if (attempt >= ATTEMPTS || !isRepeated || problem instanceof ServerReadOnly) throw problem;
        if (!RETRIED_STATUS.has(reply.status) && !isBeingAnswered(problem)) throw problem;
        // Whoever asks sooner than they were told to is refused again: a long wait is the person's to decide on.
        if (asked > MAX_WAIT_SECONDS || (reply.status >= 500 && slept + asked > AWAY_SECONDS)) throw problem;
      } catch (error) {
        if (!(error instanceof Failed)) throw error;
        // What is repeated is idempotent by method or by key, so a lost answer is asked for again.
        if (attempt >= ATTEMPTS || !isRepeated || pace.left() === 0 || this.#ended.signal.aborted)
          throw explain(this.server, error);
      }
      const left = pace.left();
      const pause = Math.max(asked, Math.min(wait, MAX_WAIT_SECONDS) * (0.8 + 0.4 * Math.random())); // spreads load
      await this.#sleep(pause);
      slept += pause;
      pace.begin(left);
      wait *= 2;
    }
  }

  /** Build one attempt: a fresh nonce and date each time, so that a retry is no replay. */
  async #signed({ method, path, body, headers }: Ask): Promise<[url: string, init: RequestInit]> {
    // As the browser will send it, so that what is signed is what the server sees.
    const url = new URL(`${this.server}/api/v1/${path}`).href;
    const lines: Record<string, string> = { accept: "application/json", ...headers };
    const hasBody = method !== "GET" && method !== "HEAD", digest = hasBody ? contentDigest(body) : "";
    if (hasBody) Object.assign(lines, { "content-digest": digest, "content-type": "application/json" });
    if (this.credential !== undefined) {
      const turn = (await this.credential.turns?.say()) ?? "", nonce = randomBytes(NONCE_SIZE);
      const said = new SignatureParameters(method, this.clock.forRequests(), this.credential.device, nonce, turn);
      Object.assign(lines, said.fields(await this.credential.key.sign(said.base(url, digest))));
    }
    const init: RequestInit = {
      method,
      headers: lines,
      // Not "error": it would say of a redirect what it says of a network that is down.
      redirect: "manual",
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
      ...(body.length > 0 ? { body } : {}),
    };
    return [url, init];
  }

  /** Send one request; its answer has begun when this returns. */
  async #begin(ask: Ask, pace: Pace): Promise<[response: Response, stop: AbortController]> {
    const [url, init] = await this.#signed(ask), stop = new AbortController();
    const end = (): void => stop.abort();
    this.#ended.signal.addEventListener("abort", end, { once: true });
    stop.signal.addEventListener("abort", () => this.#ended.signal.removeEventListener("abort", end), { once: true });
    if (this.#ended.signal.aborted) stop.abort();
    // How much of a body went out, no browser tells: it has the time that the slowest network takes for all of it.
    const response = await inTime(
      () => this.#fetch(url, { ...init, signal: stop.signal }),
      () => pace.within(TIMEOUT_SECONDS) + ask.body.length / FLOOR,
      stop,
    );
    if (response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400)) {
      stop.abort();
      throw new AnswerRefused("The server points to another address. Holdfast follows no redirects.");
    }
    if (response.status < 200) {
      stop.abort();
      throw new AnswerRefused(`The server answered ${response.status}, which ends no request.`);
    }
    return [response, stop];
  }

  async #once(ask: Ask, pace: Pace): Promise<Reply> {
    const [response, stop] = await this.#begin(ask, pace);
    try {
      return await this.#whole(response, ask.maximum, pace, stop);
    } finally {
      stop.abort();
    }
  }

  async #whole(response: Response, maximum: number, pace: Pace, stop: AbortController): Promise<Reply> {
    const headers = new Map([...response.headers].map(([name, value]) => [name.toLowerCase(), value]));
    await this.#hearTurn(headers.get(TURN) ?? "");
    const pieces: Bytes[] = [];
    for await (const piece of piecesOf(response, maximum, pace, stop)) pieces.push(piece);
    return new Reply(response.status, headers, concat(...pieces));
  }

  /** Pass on what an answer says of the turn. It proves nothing, so that nothing of it is worth a refusal. */
  async #hearTurn(text: string): Promise<void> {
    if (text === "" || this.credential?.turns === undefined) return;
    let answered: Answered;
    try {
      answered = parseAnswered(text);
    } catch (error) {
      if (error instanceof Malformed) return;
      throw error;
    }
    await this.credential.turns.hear(answered);
  }

  #correctClock(reply: Reply): boolean {
    try {
      return this.clock.correct(reply.json().time("server_time"));
    } catch (error) {
      if (error instanceof AnswerRefused) return false;
      throw error;
    }
  }

  #problem(reply: Reply): Problem | AnswerRefused {
    try {
      const document = reply.json(), code = document.text("code");
      const errors = document.has("errors")
        ? document.many("errors").map((row) => [row.text("field"), row.text("detail")] as const)
        : [];
      // How long the wait is stands in the header alone; to a person it is the way out.
      const seconds = reply.status === 429 ? retryAfter(reply) : 0;
      let wayOut = seconds > 0 ? `Try again in ${spoken(seconds)}.` : "";
      if (code === "unauthenticated" && this.clock.isOff) wayOut = `${this.clock.inWords()} ${SET_THE_CLOCK}`;
      const said = { status: reply.status, code, detail: told(document), errors, wayOut, retryAfter: retryAfter(reply) };
      return code === "log-restored" ? new ServerReadOnly(said) : new Problem(said);
    } catch (error) {
      if (!(error instanceof AnswerRefused)) throw error;
      return new AnswerRefused(`The server answered ${reply.status} without saying why.`);
    }
  }
}

/** What a document is asked for with. */
export type Query = Readonly<Record<string, string>>;

function withQuery(path: string, query: Query): string {
  const asked = Object.entries(query).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  return asked.length > 0 ? `${path}?${asked.join("&")}` : path;
}

function freshKey(): string {
  return b64u(randomBytes(16));
}

/** Wait for one step of the network, for so many seconds; rejects with Failed for whatever the network throws. */
async function inTime<T>(step: () => Promise<T>, seconds: () => number, stop: AbortController): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const most = seconds();
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new TooSlow("no answer in time")), most * 1000);
    });
    return await Promise.race([step(), late]);
  } catch (cause) {
    stop.abort();
    throw new Failed("no whole answer came", { cause });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Read a body as it comes, at most `maximum` bytes of it and no slower than the pace.
 *
 * A browser asks for compressed answers by itself and unpacks them: counted is what comes out, so that no answer grows.
 */
async function* piecesOf(response: Response, maximum: number, pace: Pace, stop: AbortController): AsyncGenerator<Bytes> {
  const reader = response.body?.getReader();
  let got = 0;
  while (reader !== undefined) {
    const { done, value } = await inTime(() => reader.read(), () => pace.within(TIMEOUT_SECONDS), stop);
    if (done) return;
    got += value.length;
    if (got > maximum) {
      stop.abort();
      throw new AnswerRefused(`The server's answer is longer than ${maximum} bytes.`);
    }
    try {
      pace.came(value.length);
    } catch (cause) {
      stop.abort();
      throw new Failed("no whole answer came", { cause });
    }
    yield value;
  }
}

/** Whether the same act, asked for before, is under way: asking again under its key gives its answer. */
function isBeingAnswered(problem: Problem | AnswerRefused): boolean {
  return problem instanceof Problem && problem.code === "conflict";
}

function told(document: Answer): string {
  return (document.has("detail") ? document.text("detail") : "") || document.text("title");
}

/** Return the seconds that the server asks to wait, at most a day; 0 when it asks for none. */
function retryAfter(reply: Reply): number {
  const text = reply.headers.get("retry-after") ?? "";
  return /^[0-9]+$/.test(text) ? Math.min(Number(text), MOST_RETRY_AFTER) : 0;
}

/** Write a wait for people, rounded up: the end of it is never said too early. */
function spoken(seconds: number): string {
  if (seconds <= 90) return `${Math.ceil(seconds)} seconds`;
  return seconds <= 5400 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds / 3600)} hours`;
}

function bodyOf(document: Document): Bytes {
  const escape = (sign: string): string => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return utf8(JSON.stringify(document).replace(/[^\x20-\x7e]/g, escape));
}
