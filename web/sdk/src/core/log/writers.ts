// SPDX-License-Identifier: Apache-2.0
/**
 * Which part of the server may write which audit entry: a table that only grows (docs/spec/escrow.md "What it believes of
 * the log").
 *
 * An entry is worth no more than whoever could write it, so each tag names as few parts as need it. It holds no keys: the
 * tenant's `roles` statement does.
 */

/** A part of the server with an account, and so a key, of its own. LOG signs heads and writes no entry. */
export const Role = {
  WEB: "web",
  WORKER: "worker",
  SEQUENCER: "sequencer",
  RELEASE: "release",
  CEREMONY: "ceremony",
  LOG: "log",
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** Tell whether a text names a role. */
export function isRole(name: string): name is Role {
  return (Object.values(Role) as string[]).includes(name);
}

// The page that a person or device asked for answers them; a worker tells people and keeps time; the release process
// speaks of releases alone; the ceremony is the operator's. That a notice was handed over, no web process can say.
const WRITERS = `
audit:entries:counted                  worker
audit:entries:exported                 web
audit:entries:read                     web
audit:entry:refuse                     sequencer
audit:export:ask                       web
audit:log:accept                       ceremony
audit:log:newer                        web
audit:roles:publish                    ceremony
audit:transcript:publish               ceremony
audit:transcript:read                  web
escrow:consent:give                    web
escrow:deposit:accept                  web
escrow:deposit:flag                    worker
escrow:deposit:read                    web
escrow:deposit:receipt                 release
escrow:deposit:refuse                  release
escrow:key:propose                     ceremony
escrow:key:publish                     ceremony web
escrow:key:sign                        web
escrow:officer:leave                   web
escrow:officer:remove                  web
escrow:officer:return                  web
escrow:officer:state-keys              web
escrow:officer:suspend                 web
escrow:policy:cancel                   web
escrow:policy:propose                  web
escrow:policy:publish                  ceremony web
escrow:policy:sign                     web
escrow:resolution:pass                 web
escrow:resolution:propose              web
escrow:resolution:sign                 web
keys:chain:append                      web
keys:chain:fork                        web
keys:chain:restore                     web
keys:device:activate                   web
keys:device:enrol                      web
keys:device:restore                    web
keys:device:revoke                     web worker
keys:device:succeed                    web
keys:door:delete                       web
keys:door:prove                        web
keys:door:read                         web
keys:door:store                        web
keys:notice:fail                       worker
keys:notice:hand-over                  worker
keys:pre-key:claim                     web
keys:pre-key:store                     web
keys:pre-key:void                      ceremony web
keys:record:unreadable                 release web worker
keys:signed-pre-key:publish            web
keys:tenant-key:bind                   ceremony
keys:tenant-key:create                 ceremony
keys:tenant-key:destroy                ceremony
keys:vault:read                        web
keys:vault:store                       web
operators:job:drop                     web
operators:job:release                  web
operators:job:retry                    web
operators:rows:read                    web
recovery:approval:refuse               web
recovery:attestation:accept            web
recovery:case:approve                  web
recovery:case:cancel                   web
recovery:case:close                    worker
recovery:case:collect                  web
recovery:case:deny                     web
recovery:case:expire                   release worker
recovery:case:open                     web
recovery:case:quorum                   release web worker
recovery:case:reopen                   release web worker
recovery:case:rotate                   worker
recovery:case:seal                     worker
recovery:case:succeed                  web
recovery:case:veto                     web
recovery:case:void                     ceremony
recovery:case:wait                     release web worker
recovery:contact-request:answer        web
recovery:contact-request:cancel        web
recovery:contact-request:collect       web
recovery:contact-request:complete      web
recovery:contact-request:expire        worker
recovery:contact-request:open          web
recovery:contact-request:veto          web
recovery:contacts:store                web
recovery:notice:fail                   worker
recovery:notice:hand-over              worker
recovery:person:leave                  web
recovery:release:begin                 release
recovery:release:defer                 release
recovery:release:destroy               worker
recovery:release:finish                release
recovery:release:held                  release
recovery:share:blame                   web
recovery:share:replace                 release
recovery:shredding:begin               web
recovery:shredding:finish              worker
tenants:act:confirm                    web
tenants:act:propose                    web
tenants:act:withdraw                   web
tenants:credential:activate            web
tenants:credential:register            web
tenants:credential:revoke              web worker
tenants:credential:suspend             web
tenants:data:export                    web
tenants:enrolment-code:confirm         web
tenants:enrolment-code:issue           ceremony web worker
tenants:enrolment-code:use             web
tenants:enrolment-code:void            web
tenants:import:confirm                 web
tenants:import:finish                  worker
tenants:import:read                    web
tenants:import:stop                    worker
tenants:invitation:accept              web
tenants:invitation:issue               ceremony web worker
tenants:invitation:promise             web worker
tenants:log-token:create               web
tenants:log-token:revoke               web
tenants:mail:drop                      worker
tenants:mail:fail                      worker
tenants:mail:hand-over                 worker
tenants:password-reset:accept          web
tenants:password-reset:issue           worker
tenants:password:set                   ceremony web
tenants:people:export                  web
tenants:person:activate                ceremony web
tenants:person:change-address          web
tenants:person:change-role             ceremony web
tenants:person:create                  ceremony web worker
tenants:person:leave                   web
tenants:person:rename                  web
tenants:person:resume                  web
tenants:person:suspend                 ceremony web
tenants:recovery-code:confirm          web
tenants:recovery-code:make             ceremony web
tenants:recovery-code:use              web
tenants:root:pin                       ceremony
tenants:service-account:create         ceremony web
tenants:session:end                    ceremony web
tenants:sign-in:accept                 web
tenants:sign-in:lock                   web
tenants:sign-in:refuse                 web
tenants:sign-out:accept                web
tenants:step-up:refuse                 web
tenants:tenant:abandon                 ceremony
tenants:tenant:ask-end                 web
tenants:tenant:ask-unlock              web
tenants:tenant:create                  ceremony
tenants:tenant:end                     ceremony
tenants:tenant:export                  web
tenants:tenant:found                   ceremony
tenants:tenant:lock                    web
tenants:tenant:resume                  web
tenants:tenant:stop-end                web
tenants:tenant:suspend                 web
tenants:tenant:take-export             web
tenants:tenant:unlock                  worker
tenants:totp:confirm                   ceremony web
tenants:totp:reset                     ceremony web
tenants:totp:seal                      web worker
`;
let byTag: ReadonlyMap<string, readonly Role[]> | undefined;

/** Return every tag with the roles that may write it, as the table has them. */
export function writers(): ReadonlyMap<string, readonly Role[]> {
  return (byTag ??= new Map(
    WRITERS.trim().split("\n").map((line): [string, Role[]] => {
      const [tag, ...names] = line.split(/ +/) as [string, ...Role[]];
      return [tag, names];
    }),
  ));
}
