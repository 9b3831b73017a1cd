#!/usr/bin/env python3
"""Draws docs/negatives.svg from the JSON lines of `cargo bench --bench negatives -- --only bias`.

    benches/negatives_plot.py LINES.jsonl [OUT.svg]

One row of panels per stream, one panel per form of the correction, one line per sampler: relative bias of the gradient
against the number of draws, both on a log scale. What is not clear of its own noise is left out. No dependencies.
"""

import json
import math
import sys
from pathlib import Path

FORMS = {
    "uncorrected": "uncorrected",
    "sampled": "positive corrected as if sampled",
    "certain": "positive taken as certain",
}
# Colour, dash and mark: full support, then half unigram, then partial support.
STYLES = {
    "uniform": ("#888888", "", "o"),
    "unigram": ("#1f77b4", "", "o"),
    "unigram^0.75": ("#1f77b4", "5 3", "s"),
    "log_uniform": ("#9467bd", "", "o"),
    "interval": ("#17a2a2", "", "o"),
    "cooccurrence": ("#d98200", "", "o"),
    "adaptive": ("#d62728", "", "o"),
    "uniform+unigram": ("#888888", "5 3", "s"),
    "hard": ("#2ca02c", "2 3", "x"),
    "hard+unigram": ("#2ca02c", "", "o"),
    "exposure": ("#c45aa8", "2 3", "x"),
    "exposure+unigram": ("#c45aa8", "", "o"),
}
WIDTH, LEFT, RIGHT, GAP, TOP, PANEL, ROW_GAP, LEGEND = 860, 58, 12, 16, 58, 230, 48, 66
CLEAR = 2.5


def main():
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines() if line.startswith("{")]
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent.parent / "docs" / "negatives.svg"
    lines = [line for line in lines if line["measure"] == "bias"]
    # By stream, form, sampler: the points.
    points = {}
    for line in lines:
        if line["bias"] > CLEAR * line["standard_error"]:
            key = (line["stream"], line["form"], line["sampler"])
            points.setdefault(key, []).append((line["draws"], line["bias"]))
    streams = list(dict.fromkeys(line["stream"] for line in lines))
    draws = sorted({line["draws"] for line in lines})
    values = [bias for line in points.values() for _, bias in line]
    low = 10 ** (math.floor(math.log10(min(values)) * 2) / 2)
    high = 10 ** (math.ceil(math.log10(max(values)) * 2) / 2)
    panel = (WIDTH - LEFT - RIGHT - 2 * GAP) / 3
    height = TOP + len(streams) * (PANEL + ROW_GAP) + LEGEND + 8
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<title>Bias of the sampled gradient against the number of draws</title>",
        "<style>text { fill: #444 } .grid { stroke: #8884; stroke-width: 1 } .frame { stroke: #8888; fill: none } "
        "path { fill: none; stroke-width: 1.8 } .strong { font-weight: 600 } "
        "@media (prefers-color-scheme: dark) { text { fill: #ccc } }</style>",
        f'<text x="{LEFT}" y="20" class="strong" font-size="14">Relative bias of the gradient from N draws, '
        "against that over all live items</text>",
    ]
    for row, stream in enumerate(streams):
        top = TOP + row * (PANEL + ROW_GAP)
        for column, (form, title) in enumerate(FORMS.items()):
            left = LEFT + column * (panel + GAP)

            def x(n, left=left):
                share = math.log(n / draws[0]) / math.log(draws[-1] / draws[0])
                return left + 14 + share * (panel - 28)

            def y(bias, top=top):
                return top + PANEL * math.log(high / bias) / math.log(high / low)

            svg.append(f'<text x="{left + panel / 2:.1f}" y="{top - 8}" text-anchor="middle">{stream}: {title}</text>')
            for exponent in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
                for digit in (1, 3):
                    value = digit * 10.0**exponent
                    if not low <= value <= high:
                        continue
                    svg.append(f'<line class="grid" x1="{left:.1f}" x2="{left + panel:.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
                    if column == 0:
                        label = f"{value * 100:g} %"
                        svg.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
            for n in draws:
                svg.append(f'<line class="grid" x1="{x(n):.1f}" x2="{x(n):.1f}" y1="{top}" y2="{top + PANEL}"/>')
                svg.append(f'<text x="{x(n):.1f}" y="{top + PANEL + 16}" text-anchor="middle">{n}</text>')
            svg.append(f'<rect class="frame" x="{left:.1f}" y="{top}" width="{panel:.1f}" height="{PANEL}"/>')
            for sampler in STYLES:
                line = points.get((stream, form, sampler))
                if line:
                    svg += curve(sampler, [(x(n), y(bias)) for n, bias in line])
    bottom = TOP + len(streams) * (PANEL + ROW_GAP)
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    svg.append(f'<text x="{middle}" y="{bottom - 12}" text-anchor="middle">draws N (log scale)</text>')
    for place, sampler in enumerate(STYLES):
        left, y_legend = LEFT + place % 4 * 200, bottom + 16 + place // 4 * 22
        svg += curve(sampler, [(left, y_legend), (left + 17, y_legend), (left + 34, y_legend)])
        svg.append(f'<text x="{left + 42}" y="{y_legend + 4}">{sampler}</text>')
    svg.append("</svg>")
    out.write_text("\n".join(svg) + "\n")


def curve(sampler, places):
    """A line through `places`, with a mark at each."""
    colour, dash, mark = STYLES[sampler]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path d="{path}" stroke="{colour}"{dashes}/>'] if len(places) > 1 else []
    for x, y in places if len(places) != 3 or places[0][1] != places[2][1] else places[1:2]:
        if mark == "o":
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>')
        elif mark == "s":
            parts.append(f'<rect x="{x - 2.5:.1f}" y="{y - 2.5:.1f}" width="5" height="5" fill="{colour}"/>')
        else:
            d = f"M{x - 3:.1f} {y - 3:.1f}L{x + 3:.1f} {y + 3:.1f}M{x - 3:.1f} {y + 3:.1f}L{x + 3:.1f} {y - 3:.1f}"
            parts.append(f'<path d="{d}" stroke="{colour}"/>')
    return parts


if __name__ == "__main__":
    main()
