import{_ as e,a as t,c as n,f as r,g as i,i as a,l as o,m as s,s as c,t as l,x as u}from"./bytes-Bhap5wSk.js";import{d as ee,i as d,l as f,o as p,s as m,t as h}from"./encoding-BrO4Plqm.js";import{a as g,i as _,n as v,s as y}from"./public_keys-BSWCM1OQ.js";import{a as b,r as x}from"./typed-D3rE6dl6.js";import{o as S}from"./webcrypto-9Lbh7cVV.js";import{n as C}from"./uuids-Rx6wjr_8.js";import{a as w,c as T,i as E,t as D}from"./payloads-BT_XAUpv.js";const O=[[v.ED25519,Uint8Array.of(1)],[v.P256_SIGNING,a(Uint8Array.of(255),r(`holdfast/v1/p256`))]];function te(t){M(t);let n=t.split(`
`);if(n.length<4||n.at(-1)!==``||!n.slice(0,-1).every(e=>e!==``))throw new e(`checkpoint: not three lines or more, each ended`);let[r,i,a,...o]=n,s=o.find(e=>e.startsWith(`time `));return{origin:r,size:P(i,`size`),root:I(a,`root`,32),time:s===void 0?void 0:P(s.slice(5),`time`)}}var k=class n{name;key;keyId;constructor(e,t){this.name=e,this.key=t;let n=O.find(([e])=>e===t.kind)?.[1];if(n===void 0)throw TypeError(`${t.kindName} keys sign no notes`);this.keyId=S(a(r(`${e}\n`),n,t.raw)).slice(0,4)}toText(){let e=O.find(([e])=>e===this.key.kind)[1];return`${this.name}+${c(this.keyId)}+${F(a(e,this.key.raw))}`}static fromText(r){let i=b(r),a=i.indexOf(`+`),o=i.indexOf(`+`,a+1),s=I(a<0||o<0?``:i.slice(o+1),`verifier key`);for(let[e,r]of O){if(!t(s.subarray(0,r.length),r))continue;let l=new n(N(i.slice(0,a)),new _(e,s.slice(r.length)));if(c(l.keyId)===i.slice(a+1,o))return l}throw new e(`verifier key: neither Ed25519 nor P-256, or its id is not its key's`)}async open(e){let[n,a]=j(e),o=a.filter(([e,n])=>e===this.name&&t(n.subarray(0,4),this.keyId));if(o.length===0)throw new i(`the note is not signed by this key`);for(let[,e]of o){if(e.length!==68)throw new i(`the note's signature has another length`);await y(this.key,e.slice(4),r(n))}return n}async openCheckpoint(e){let t=te(await this.open(e));if(t.origin!==this.name)throw new i(`the checkpoint is of another log`);return t}},A=class{name;keys;constructor(e,t){this.name=e,this.keys=t}async openCheckpoint(e){for(let t of this.keys)try{return await new k(this.name,t).openCheckpoint(e)}catch(e){if(!(e instanceof i))throw e}throw new i(`no key of this log has signed the head`)}};function j(t){if(M(t),r(t).length>16384)throw new e(`note: longer than 16 KiB`);let n=t.lastIndexOf(`

`),i=t.slice(n+2);if(n<0||!i.endsWith(`
`)||/[\x00-\x09\x0b-\x1f]/.test(t))throw new e(`note: no signatures, or control characters`);let a=i.slice(0,-1).split(`
`).map(t=>{if(!t.startsWith(`— `))throw new e(`note: a signature line of another form`);let n=t.slice(2),r=n.indexOf(` `),i=I(r<0?``:n.slice(r+1),`signature`);if(i.length<=4)throw new e(`note: a signature line without a signature`);return[N(r<0?n:n.slice(0,r)),i]});return[`${t.slice(0,n)}\n`,a]}function M(t){if(!n(t))throw new e(`note: not UTF-8`)}function N(t){if(M(t),t===``||t.includes(`+`)||x(t))throw new e(`note: a key name is not empty and has no space and no plus`);return t}function P(t,n){if(!/^(0|[1-9][0-9]{0,15})$/.test(t))throw new e(`checkpoint: ${n} is not a decimal number`);let r=Number(t);if(r>d)throw new e(`checkpoint: ${n} is too large`);return r}function F(e){let t=p(e).replaceAll(`-`,`+`).replaceAll(`_`,`/`);return t+`=`.repeat(-t.length&3)}function I(t,n,r){let i=/^([A-Za-z0-9+/]*)={0,2}$/.exec(t)?.[1];try{if(i===void 0||t.length%4!=0)throw new e;let n=ee(i.replaceAll(`+`,`-`).replaceAll(`/`,`_`));if(i.length+(-i.length&3)===t.length&&p(n).length===i.length&&(r===void 0||n.length===r))return n}catch(t){if(!(t instanceof e))throw t}throw new e(`${n}: not canonical base64, or of another length`)}function L(e){let t=m(e),n=t instanceof Map&&t.get(1)===2,r=h.of(t,`log entry`,[1,2,3,4,6,7,8,...n?[9,10]:[]],[5]);r.uint(1,{minimum:1,maximum:2});let i=r.array(8,{maximum:32}).map(z);if(!i.every(([e],t)=>t===0||R(i[t-1][0],e)))throw r.refuse(8,`is not in ascending order of names without repeats`);return{entryId:r.octets(2,16),tag:r.text(3,{maximum:80}),actor:r.text(4,{maximum:80}),person:r.has(5)?r.octets(5,16):l,subject:r.text(6,{maximum:200}),time:r.uint(7),body:new Map(i),kid:n?r.octets(9,16):l,signature:n?r.octets(10,64):l}}function R(e,t){let[n,i]=[r(e),r(t)];for(let e=0;e<Math.min(n.length,i.length);e++)if(n[e]!==i[e])return n[e]<i[e];return n.length<i.length}function z(t){let n=h.ofRow(t,`log entry field`,2),r=n.value(1);if(Array.isArray(r)||r instanceof Map)throw new e(`log entry field: neither text, number nor bytes`);if(typeof r==`string`&&o(r)>512||r instanceof Uint8Array&&r.length>64)throw new e(`log entry field: too long`);return[n.text(0,{maximum:80}),r]}const B=Uint8Array.of(10,88,64);async function V(e,n,r,o){if(n.kid.length===0||!t(n.kid,o.kid))throw new i(`the entry is not signed by this key`);let s=e.length-64-B.length,c=a(Uint8Array.of(e[0]-1),e.subarray(1,s));await y(o,n.signature,f(`log-entry`,r,c))}function H(e){let t=h.of(m(e),`key log leaf`,[1,2,3,4,5]);return{type:t.uint(1,{minimum:1,maximum:6}),subjectHash:t.octets(2,32),seq:t.uint(3),statementHash:t.octets(4,32),time:t.uint(5)}}const U=r(`holdfast/v1/kt`);function W(e,t=l){return S(a(U,e,t))}function G(e,t){return`holdfast/${e}/${t}`}const K={WEB:`web`,WORKER:`worker`,SEQUENCER:`sequencer`,RELEASE:`release`,CEREMONY:`ceremony`,LOG:`log`};function q(e){return Object.values(K).includes(e)}let J;function Y(){return J??=new Map(`audit:entries:counted                  worker
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
tenants:totp:seal                      web worker`.split(`
`).map(e=>{let[t,...n]=e.split(/ +/);return[t,n]}))}var X=class extends u{why;constructor(e){super(`an entry of the log is not what it has to be: ${e}`),this.why=e}},Z=class{header;version;keys;predecessor;unsigned;#e;constructor(e){this.header=e.header,this.version=e.version,this.keys=e.keys,this.predecessor=e.predecessor,this.unsigned=e.unsigned,this.#e=new Map(e.keys.map(e=>[c(e.key.kid),e]))}of(e){return this.keys.filter(t=>t.role===e&&t.until===0).map(e=>e.key)}allOf(e){return this.keys.filter(t=>t.role===e).map(e=>e.key)}named(e){return this.#e.get(c(e))}get origin(){return this.originOf(`audit`)}originOf(e){return G(C(this.header.tenant),e)}maySign(e,t){let n=this.named(e.key.kid);return n===void 0||n.role!==K.LOG?!1:e.name===this.origin?n.until===0||t<=n.until:e.name===this.originOf(`keys`)&&n.until===0}async openHead(e,t=`audit`){let n=new i(`the head is not signed by a key that the tenant root names`);for(let r of this.keys){if(r.role!==K.LOG)continue;let a=new k(this.originOf(t),r.key),o;try{o=await a.openCheckpoint(e)}catch(e){if(!(e instanceof i))throw e;n=e;continue}if(!this.maySign(a,o.size))throw new i(`the head is signed by a key that had ended`);return o}throw n}};function Q(e){let[t,n]=E(e,`roles`,[7,8],{optional:[9,10]});T(t,`roles`);let r=n.uint(7,{minimum:1,maximum:D}),i=n.array(8,{minimum:1,maximum:128}).map(ne);if(new Set(i.map(e=>c(e.key.kid))).size!==i.length)throw n.refuse(8,`names one key twice`);if(n.has(9)===(r===1))throw n.refuse(9,`belongs to every version but the first`);let a;if(n.has(10)){let e=h.ofRow(n.value(10),`roles: unsigned leaves`,2);a=[e.uint(0,{minimum:1,maximum:d}),e.octets(1,32)]}return new Z({header:t,version:r,keys:i,predecessor:r>1?n.octets(9,32):l,unsigned:a})}function ne(t){let n=h.ofRow(t,`role key`,3),r=n.text(0,{maximum:16});if(!q(r))throw new e(`role key: no such role`);return{role:r,key:w(n,1,g),until:n.uint(2,{maximum:d})}}async function re(e,n){let r=Q(await e.verify(n.rootKey,`roles`));if(!t(r.header.tenant,n.tenant))throw new u(`roles of another tenant`);let i={roles:r,hash:e.payloadHash};return n.seen!==void 0&&ie(i,n.seen),i}function ie(e,n){let r=e.roles,i=n.roles;if(r.version<i.version)throw new u(`roles are older than those seen before`);if(r.version===i.version&&!t(e.hash,n.hash))throw new s(`two roles statements claim one version`);if(r.unsigned?.[0]!==i.unsigned?.[0]||!t(r.unsigned?.[1]??l,i.unsigned?.[1]??l))throw new u(`roles move the size below which entries are unsigned`);for(let e of i.keys){let t=r.named(e.key.kid);if(t===void 0||t.role!==e.role||e.until!==0&&t.until!==e.until)throw new u(`roles change a key that was named before`)}}function ae(e,t){return new k(`holdfast/${C(e)}/root`,t)}async function oe(t,n){let r;try{r=L(t)}catch(t){throw t instanceof e?new X(`form`):t}return await $(r,t,n),r}async function $(e,t,{index:n,roles:r}){if(r.unsigned!==void 0&&n<r.unsigned[0])return;if(e.kid.length===0)throw new X(`unsigned`);let a=r.named(e.kid);if(a===void 0)throw new X(`key`);if(!Y().get(e.tag)?.includes(a.role))throw new X(`role`);if(a.until!==0&&n>=a.until)throw new X(`key-ended`);try{await V(t,e,r.origin,a.key)}catch(e){throw e instanceof i?new X(`signature`):e}}export{ae as a,L as c,G as d,A as f,Q as i,H as l,$ as n,re as o,k as p,oe as r,K as s,X as t,W as u};