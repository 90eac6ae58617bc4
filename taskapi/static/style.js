/** How the element looks. */

const STYLE = `
:host {
  display: block; color: var(--task-progress-text, light-dark(#1f2328, #e6e8eb));
  --accent: var(--task-progress-color, light-dark(#3b62d6, #86a3ff));
  --muted: var(--task-progress-muted, light-dark(#5c656e, #a0a8b0)); --message: var(--muted);
  --track: var(--task-progress-track, light-dark(#e4e7eb, #31363d));
}
[hidden], :host([hidden]) { display: none !important }
:host([status=completed]) { --accent: var(--task-progress-completed, light-dark(#2a8550, #5fc58a)) }
:host(:is([status=failed], [status=timeout], [status=error])) {
  --accent: var(--task-progress-failed, light-dark(#c4302b, #ff8a80)); --message: var(--accent);
}
:host(:is([status=pending], [status=queued], [status^=cancel])) { --accent: var(--muted) }
[part=head], [part=text] { display: flex; gap: 0 .9em; align-items: baseline; font-variant-numeric: tabular-nums }
[part=head] { font-weight: 600 }
[part=actions] { display: contents }
[part=text] { flex-wrap: wrap; min-height: 1.5em }
[part=text], [part=below], p { font-size: .875em; color: var(--muted) }
[part=percent], [part=stage] { color: var(--accent) }
[part=message] { color: var(--message) }
span, p { min-width: 0; overflow-wrap: anywhere; unicode-bidi: plaintext }
[part=percent] { flex: none; white-space: nowrap }
[part=label] { margin-inline-end: auto }
[part=time] { margin-inline-start: auto }
p { margin: .15em 0 0; white-space: pre-line; inline-size: fit-content }
progress {
  appearance: none; display: block; box-sizing: border-box; inline-size: 100%; block-size: var(--task-progress-height, .5rem);
  margin: .4em 0 .35em; border: 0; border-radius: 9em; overflow: hidden; background: var(--track);
}
::-webkit-progress-bar { background: none }
::-webkit-progress-value { background: var(--accent); border-radius: 9em; transition: inline-size .4s ease-out }
.back::-webkit-progress-value { transition: none }
::-moz-progress-bar { background: var(--accent); border-radius: 9em }
:indeterminate::-moz-progress-bar { background: none }
:host(:is([status=starting], [status=running])) :indeterminate {
  background: linear-gradient(90deg, var(--track) 30%, var(--accent), var(--track) 70%) 50% / 250%; animation: pass 2.4s linear infinite;
}
@keyframes pass { from { background-position: 117% } to { background-position: -17% } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important } ::-webkit-progress-value { transition: none } }
@media (forced-colors: active) { progress { forced-color-adjust: none; border: 1px solid; --accent: Highlight } }`;

/** What a strict CSP lets pass. */
export function sheetOf(style = "") {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  return sheet;
}

// Not on a server.
export const sheet = globalThis.CSSStyleSheet && sheetOf(STYLE);
