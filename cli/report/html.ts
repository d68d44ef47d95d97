/** What the pages share: style, frame. */
import { escaped } from "../../src/markup.js";

const style = `
:root{color-scheme:light dark;--ink:#1c2430;--soft:#667085;--line:#e4e7ec;--card:#f7f8fa;--page:#fff;--c0:#2563eb;--c1:#d9480f;--c2:#0f9d58;--c3:#9333ea;--c4:#b7791f;--c5:#db2777}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3442;--card:#1a202b;--page:#11151c;--c0:#7aa2ff;--c1:#ff9e66;--c2:#5bd69a;--c3:#c99bff;--c4:#e6c36a;--c5:#ff8fc1}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:940px;margin:2.5em auto;padding:0 1.2em}
h1{font-size:1.7em;margin:0}h2{font-size:1.15em;margin:2.2em 0 .6em}p{margin:.3em 0}.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:1.4em 0}.card{background:var(--card);border-radius:10px;padding:.8em 1em}.card b{display:block;font-size:1.3em;font-weight:600;white-space:nowrap}.card span{color:var(--soft);font-size:.88em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:18px 24px}figure{margin:0}.chart figcaption{font-weight:600;font-size:.92em}svg{width:100%;height:auto;overflow:visible}
polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}.pale{stroke:var(--c0);opacity:.25;stroke-width:1}.grid{stroke:var(--line)}.mark{stroke:var(--soft);stroke-dasharray:4 3}text{font-size:11px;fill:var(--soft)}.x{text-anchor:middle}.y{text-anchor:end;dominant-baseline:middle}.level{text-anchor:end}
${[0, 1, 2, 3, 4, 5].map((i) => `.line.c${i}{stroke:var(--c${i})}.legend .c${i}{color:var(--c${i})}`).join("")}
.legend span{margin-right:1.2em;font-size:.88em}.legend span:before{content:"— "}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25em .9em;text-align:right;border-bottom:1px solid var(--line)}th{font-weight:600;color:var(--soft)}td:first-child,th:first-child{text-align:left;padding-left:0}
.scroll{overflow-x:auto}.strip{display:flex;gap:6px;align-items:center;margin-bottom:8px}.strip img{width:92px;height:92px;object-fit:cover;border-radius:6px;display:block}.strip figure:first-child{margin-right:16px}.strip figcaption{font-size:.72em;color:var(--soft);text-align:center;max-width:92px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.same img{outline:3px solid var(--c2);outline-offset:-3px}.other img{outline:3px solid var(--c1);outline-offset:-3px}
.dense{display:flex;flex-wrap:wrap;gap:14px}.dense img{width:132px;height:132px;display:block;border-radius:6px}.dense div{display:grid;gap:4px}
pre{background:var(--card);border-radius:10px;padding:1em;overflow:auto;font-size:.85em}summary{cursor:pointer;font-weight:600;margin:2.2em 0 .6em}`;

/** A self-contained page. */
export const page = (title: string, body: string): string =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${style}</style>
${body}</html>
`;

export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  `<div class="scroll"><table><tr>${head.map((c) => `<th>${escaped(c)}</th>`).join("")}</tr>${rows
    .map((r) => `<tr>${r.map((c) => `<td>${escaped(c)}</td>`).join("")}</tr>`)
    .join("")}</table></div>`;
