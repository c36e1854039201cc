// SPDX-License-Identifier: Apache-2.0
/** What an app in the browser needs of Holdfast; `holdfast/core/*` and `holdfast/client/*` have the rest. */
export * from "./core/base/errors.js";
export { SecretBytes } from "./core/base/secret.js";
export { DEFAULT_SUITE, Suite } from "./core/crypto/suites.js";
