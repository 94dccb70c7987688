"""The frame of a page: its style, and the little script that says what a curve's value is under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light; --ink: #1c2024; --soft: #626a73; --rule: #dfe3e8; --back: #fff; --card: #f7f8fa; --mark: #a02020; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1220px; padding: 24px 20px 60px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 34px 0 10px; border-bottom: 1px solid var(--rule); padding-bottom: 4px; }
p.soft, .soft { color: var(--soft); } ul.findings { padding-left: 20px; max-width: 900px; }
.grid-of { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 14px 26px; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.facts div { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 14px; min-width: 110px; }
.facts b { display: block; font-size: 20px; font-weight: 600; } .facts span { color: var(--soft); font-size: 13px; }
figure { margin: 0; position: relative; } figcaption { font-weight: 600; font-size: 14px; margin-bottom: 2px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg .label { font-size: 12px; fill: var(--ink); }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .axis { stroke: var(--soft); fill: none; } svg line.mark { stroke: var(--mark); stroke-dasharray: 3 3; } svg text.mark { fill: var(--mark); }
svg.chart, svg.bars { width: 100%; height: auto; display: block; } svg.chart { max-width: 760px; } svg.bars { max-width: 640px; }
table.confusion th { text-align: right; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; padding: 0 0 0 62px; margin: 2px 0 0; font-size: 13px; } .legend svg { width: 24px; height: 8px; margin-right: 5px; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: 3px 9px; text-align: left; } thead th { border-bottom: 1px solid var(--soft); }
tbody tr { border-bottom: 1px solid var(--rule); } .scroll { overflow-x: auto; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
table.confusion td { text-align: right; min-width: 26px; padding: 3px 6px; font-variant-numeric: tabular-nums; } table.confusion tbody tr { border: 0; } table.confusion th { font-weight: 500; }
.pictures { display: flex; flex-wrap: wrap; gap: 12px; } .pictures figure { width: 92px; font-size: 12px; } .pictures figcaption { font-weight: 400; font-size: 12px; line-height: 1.3; }
.pictures img { width: 92px; height: 92px; object-fit: contain; image-rendering: pixelated; border: 1px solid var(--rule); background: #000; }
.filters img { width: 54px; height: 54px; image-rendering: pixelated; border: 1px solid var(--rule); }
.tip { position: absolute; pointer-events: none; background: #fff; border: 1px solid var(--soft); border-radius: 4px; padding: 4px 8px; font-size: 12px; white-space: nowrap; display: none; z-index: 2; box-shadow: 0 1px 4px #0003; }
@media print { .tip { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""

SCRIPT = """
for (const svg of document.querySelectorAll('svg.chart')) {
  const figure = svg.closest('figure'), tip = document.createElement('div');
  tip.className = 'tip'; figure.append(tip);
  const lines = [...svg.querySelectorAll('g.line')].map(g => ({ name: g.dataset.name, colour: g.style.color,
    points: g.dataset.points.split(';').filter(Boolean).map(p => { const f = p.split(','); return [+f[0], +f[1], f[2], f.slice(3).join(',')]; }) }));
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width, at = (event.clientX - box.left) / scale;
    const all = lines.flatMap(l => l.points.map(p => p[0]));
    if (!all.length) return;
    const near = all.reduce((a, b) => Math.abs(b - at) < Math.abs(a - at) ? b : a);
    tip.replaceChildren(); let head = '';
    for (const line of lines) {
      const point = line.points.find(p => Math.abs(p[0] - near) < 0.6);
      if (!point) continue;
      head = point[2];
      const row = document.createElement('div'), dot = document.createElement('b');
      dot.textContent = '\\u25cf '; dot.style.color = line.colour;
      row.append(dot, line.name + ': ' + point[3]); tip.append(row);
    }
    tip.prepend(Object.assign(document.createElement('div'), { textContent: 'at ' + head, className: 'soft' }));
    tip.style.display = 'block';
    const left = near * scale, right = left > box.width * 0.6;
    tip.style.left = right ? '' : (left + 12) + 'px'; tip.style.right = right ? (box.width - left + 12) + 'px' : '';
    tip.style.top = (svg.offsetTop + 16) + 'px';
  });
  svg.addEventListener('pointerleave', () => tip.style.display = 'none');
}
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page that needs nothing else. `title` is plain text, `body` are pieces of HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def section(title: str, *pieces: str) -> str:
    """A section with a heading; nothing where there are no pieces."""
    inside = "".join(pieces)
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def facts(entries: Sequence[tuple[str, str]]) -> str:
    """Numbers that stand out, with what they are below them."""
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{escape(v)}</b><span>{escape(k)}</span></div>" for k, v in entries)
        + "</div>"
    )


def grid(pieces: Sequence[str]) -> str:
    """Pieces side by side as far as the page is wide; nothing where there are none."""
    return f'<div class="grid-of">{"".join(pieces)}</div>' if pieces else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: frozenset[int] = frozenset()) -> str:
    """A table of plain texts; columns in `numeric` are set to the right."""

    def cell(tag: str, column: int, text: str) -> str:
        kind = ' class="n"' if column in numeric else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    top = "".join(cell("th", i, text) for i, text in enumerate(head))
    lines = "".join("<tr>" + "".join(cell("td", i, t) for i, t in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
