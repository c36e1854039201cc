// SPDX-License-Identifier: Apache-2.0
/** The SDK's steps in a page, each beside the same of another library: `measure(name)` as in steps.mjs. */
import { matrixPair, matrixTargets } from "./matrix.mjs";
import { batch, compared, inOrder, pair, PLAINTEXT, ROUNDS, strangers } from "./ours.mjs";

const STEPS = {
  async beginBeside() {
    const [before, begin] = strangers(), each = 5;
    const once = async () => {
      const theirs = await matrixTargets(each);
      await before(each);
      const begun = performance.now();
      for (let at = 0; at < each; at++) await (await begin()).encrypt(PLAINTEXT);
      const ours = (performance.now() - begun) / each;
      return [ours / 1000, (await theirs(PLAINTEXT)) / 1000];
    };
    const rounds = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const turns = [];
      for (let turn = 0; turn < 6; turn++) turns.push(await once());
      rounds.push([0, 1].map(which => Math.min(...turns.map(turn => turn[which]))));
    }
    // The first round is what is compiled and loaded at first.
    return [0, 1].map(which => rounds.slice(1).map(round => round[which]));
  },
  async encryptBeside() {
    const [hers] = await pair(), other = await matrixPair();
    return compared([() => hers.encrypt(PLAINTEXT), () => other.encrypt(PLAINTEXT)], { turns: 40, per: 20 });
  },
  async decryptBeside() {
    const [ready, open] = inOrder(await pair()), other = await matrixPair(), waiting = [];
    const before = async per => {
      await ready(per);
      while (waiting.length > 0) await other.decrypt(waiting.pop());
      for (let at = 0; at < per; at++) waiting.unshift(await other.encrypt(PLAINTEXT));
    };
    return compared([open, () => other.decrypt(waiting.pop())], { turns: 5, per: 10, before });
  },
  async batchBeside() {
    const other = await matrixPair();
    return compared([batch, () => other.hundredKeys()], { turns: 4, per: 1 });
  },
};

globalThis.measure = name => STEPS[name]();
