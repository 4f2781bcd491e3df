/** The page's style. The colours are Okabe and Ito's, which colour-blind people can tell apart; lines repeat what they say. */
export const STYLE = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1b; --soft: #666; --line: #ccc;
  --confirmed: #e4e4e4; --accepted: #f6e27a; --fast: #a9d8f5; --stationary: #9fe0c8; --rejected: #f7cdb6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #eee; --soft: #a5a5a5; --line: #444;
    --confirmed: #3c4045; --accepted: #6d6010; --fast: #14557c; --stationary: #0c6048; --rejected: #7a3a1a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; }
h2 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 1.2rem 0 .4rem; }
p { margin: .3rem 0; }
#model { color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: .6rem; border: 1px solid var(--line);
  border-radius: .4rem; font: .9rem/1.5 ui-monospace, monospace; max-height: 16rem; overflow: auto; unicode-bidi: plaintext; }
nav { position: sticky; top: 0; background: var(--paper); padding: .6rem 0; border-bottom: 1px solid var(--line); z-index: 1; }
.buttons { display: flex; gap: .4rem; }
button { flex: 1; min-height: 2.6rem; font: inherit; color: inherit; background: transparent; border: 1px solid var(--line);
  border-radius: .4rem; cursor: pointer; }
button:focus-visible, input:focus-visible, summary:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
input[type=range] { width: 100%; min-height: 2rem; }
.tokens { display: flex; flex-wrap: wrap; gap: .25rem; }
.t { display: inline-block; max-width: 100%; padding: .1rem .35rem; border: 2px solid transparent; border-radius: .3rem;
  font: .9rem/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.confirmed { background: var(--confirmed); }
.accepted { background: var(--accepted); border-color: currentColor; }
.fastForwarded { background: var(--fast); border-bottom: 2px solid currentColor; }
.stationary { background: var(--stationary); border-bottom: 4px double currentColor; }
.rejected { background: var(--rejected); text-decoration: line-through; }
.plain { border: 2px dotted var(--line); }
.new { background: var(--accepted); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0 0; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
#history { display: grid; gap: .25rem; }
#history .row { display: grid; grid-template-columns: 3rem 1fr; gap: .4rem; align-items: start; }
#history .row > span { color: var(--soft); font-size: .8rem; text-align: right; }
#history .t { font-size: .75rem; padding: 0 .2rem; }
#history .current { outline: 2px solid var(--line); border-radius: .3rem; }
.legend { list-style: none; padding: 0; display: grid; gap: .4rem; margin: 0; }
`;
