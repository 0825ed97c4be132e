"""The look of a roll's page: screen, tablet and A4 print, nothing from outside."""

from zellige.station.roll_layout import MARKER_PX
from zellige.station.roll_map import PLOT_CSS

CSS = (
    """
:root { --ink: #1f2933; --muted: #4d5a66; --line: #d5dbe1; --soft: #f3f6f8; --blue: #0b5cad; --warn: #9a5b00;
  --warn-soft: #fdf3da; --ok: #2d6a4b; --ok-soft: #eaf3ee; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1360px; padding: 26px 28px 60px; color: var(--ink); background: white;
  font: 16px/1.5 "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 10px; margin-bottom: 16px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 8px; } h3 { font-size: 17px; margin: 0 0 6px; }
section { margin-top: 30px; } p { margin: 6px 0 10px; } .muted { color: var(--muted); }
.note { border-left: 5px solid var(--line); background: var(--soft); padding: 9px 16px; margin: 12px 0 16px; }
.note.warn { border-color: #d08a00; background: var(--warn-soft); }
.note.ok { border-color: var(--ok); background: var(--ok-soft); } .note p { margin: 2px 0; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; overflow-wrap: anywhere; }
.card .what { color: var(--muted); font-size: 15px; } .card .words { font-size: 15px; }
.card .number { font-size: 28px; font-weight: 600; line-height: 1.25; }
button, select, input { font: inherit; color: inherit; min-height: 42px; padding: 4px 14px; border-radius: 6px;
  border: 1px solid #8794a1; background: white; } button { cursor: pointer; } button:hover { background: var(--soft);
  }
button:disabled { color: #8794a1; border-color: var(--line); cursor: default; background: white; }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 1px; }
.bar-top { display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: center; margin-bottom: 10px; }
.bar-top h2 { margin: 0; } .tools { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
#shown { margin-left: auto; }
.grid { margin-top: 24px; display: grid; grid-template-columns: 62px minmax(0, 1fr) minmax(70px, max-content); }
.holder { position: relative; } #plot { width: 100%; height: 340px; display: block; cursor: crosshair;
  touch-action: pan-y; user-select: none; } #strip { width: 100%; height: 70px; display: block;
  border-bottom: 1px solid var(--muted); margin-top: 6px; }
#across, #lane-names, #along { position: relative; font-size: 15px; } #along { height: 32px; }
#across span, #lane-names span { position: absolute; transform: translateY(-50%); white-space: nowrap;
  line-height: 1; }
#across span { right: 12px; } #across span.unit { top: -18px; color: var(--muted); }
#across span:not(.unit)::after { content: ""; position: absolute; right: -12px; top: 50%; width: 7px;
  border-top: 1px solid var(--muted); }
#lane-names { width: clamp(70px, 15vw, 170px); overflow: hidden; } #lane-names span { left: 12px; right: 0;
  display: flex; gap: 7px; line-height: 1.25; } #lane-names i { font-style: normal; }
#lane-names i, #lane-names b { overflow: hidden; text-overflow: ellipsis; }
#lane-names b { flex: none; max-width: 70%; }
#along span { position: absolute; top: 9px; transform: translateX(-50%); white-space: nowrap; }
#along span::before { content: ""; position: absolute; left: 50%; top: -9px; height: 7px;
  border-left: 1px solid var(--muted); }
#along-unit { padding: 8px 0 0 36px; font-size: 15px; } .caption { font-size: 15px; padding-top: 4px; }
#cross line { stroke: var(--ink); stroke-width: 1.5px; } #cross line.halo { stroke: white; stroke-width: 3.5px; }
.bar, .gap { shape-rendering: crispEdges; }
#tip { position: absolute; pointer-events: none; background: var(--ink); color: white; padding: 5px 10px;
  border-radius: 5px; font-size: 15px; white-space: nowrap; transform: translate(-50%, calc(-100% - 14px));
  z-index: 2; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 22px; padding: 0; margin: 12px 0 4px 62px; }
.legend svg { vertical-align: -1px; } .hatch { display: inline-block; width: 26px; height: 14px; vertical-align: -2px;
  border: 1px solid var(--warn); background: repeating-linear-gradient(45deg, #fbe9c6 0 4px, #9a5b00 4px 6px); }
span.seam { display: inline-block; width: 26px; vertical-align: 4px; border-top: 1px dashed var(--muted); }
#map > p { margin-left: 62px; font-size: 15px; }
#detail { display: flex; gap: 20px; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  margin-bottom: 18px; min-height: 170px; } #crop { flex: none; width: 220px; min-height: 140px; display: grid;
  place-items: center; background: var(--soft); border-radius: 4px; color: var(--muted); text-align: center;
  font-size: 15px; } #crop img { max-width: 220px; max-height: 220px; min-width: 200px; object-fit: contain;
  display: block; }
#detail dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 6px 20px;
  margin: 0 0 12px; }
#detail dt { color: var(--muted); font-size: 14px; } #detail dd { margin: 0; } #detail > div:last-child { flex: 1; }
#detail-text { margin-bottom: 10px; color: var(--ink); }
.gallery { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 10px; }
.gallery button { padding: 6px; display: block; font-size: 14px; line-height: 1.3; overflow: hidden; }
.gallery img { width: 100%; height: 84px; object-fit: contain; display: block; background: var(--soft);
  margin-bottom: 4px; }
.filters { display: flex; flex-wrap: wrap; gap: 10px 16px; align-items: end; margin-bottom: 12px; }
.filters label { display: grid; font-size: 15px; color: var(--muted); } .filters select, .filters input {
  color: var(--ink); font-size: 16px; max-width: 260px; } .filters input { width: 130px; }
.wide { overflow-x: auto; } .gallery span { display: block; } table.narrow { width: auto; min-width: 50%; }
  table { border-collapse: collapse; width: 100%; font-size: 15px; }
th { text-align: left; color: var(--muted); border-bottom: 1px solid var(--ink); font-weight: 600; }
th, td { padding: 7px 14px 7px 0; vertical-align: top; } td { border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th.count, td.count { text-align: right; white-space: nowrap; } #lanes th.count { white-space: normal; }
  #lanes td:first-child { min-width: 90px; } td.key { width: 220px; color: var(--muted); }
td.count + td:not(.count), th.count + th:not(.count) { padding-left: 14px; }
th button { border: 0; padding: 4px 2px; min-height: 34px; font-weight: 600; color: inherit; }
th[aria-sort=ascending] button::after { content: " ▲"; } th[aria-sort=descending] button::after { content: " ▼"; }
#table tbody tr { cursor: pointer; } #table tbody tr:hover { background: var(--soft); }
#table tbody tr[aria-current=true] { background: #dcebfa; box-shadow: inset 4px 0 0 var(--blue); }
#table td:first-child { padding-left: 10px; } #table td button { border: 0; background: none; min-height: 0;
  padding: 0 4px;
  text-decoration: underline; color: var(--blue); } .dot { display: inline-block; width: 12px; height: 12px;
  margin-right: 6px; }
footer { margin-top: 40px; border-top: 1px solid var(--line); padding-top: 14px; }
@media (max-width: 1100px) { .gallery { grid-template-columns: repeat(5, minmax(0, 1fr)); } }
@media (max-width: 760px) { body { padding: 16px 14px 40px; } #shown { margin-left: 0; width: 100%; }
  .grid { grid-template-columns: 52px minmax(0, 1fr) 76px; } #lane-names { width: 76px; } #plot { height: 300px; }
  .legend, #map > p { margin-left: 0; } #detail { flex-direction: column; } #lanes th.count { white-space: normal; }
  #lanes td:first-child { min-width: 90px; } td.key { width: 120px; } }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; padding: 0; font-size: 12px; }
  button, .filters, .tools, noscript { display: none; }
  th button, .gallery button, td button { display: inline; min-height: 0; border: 0; }
  section, .card, .note, tr, #detail {
  break-inside: avoid; } #defects { break-inside: auto; } #plot { height: 240px; } #strip { height: 50px; }
  table, .card .what, .card .words, #map > p, .caption, #along, #across, #lane-names { font-size: 12px; }
  .gallery { grid-template-columns: repeat(10, 1fr); } .gallery button, #detail dt { font-size: 11px; }
  h3 { font-size: 13px; } td .show-repeat { display: none; } #crop img { max-height: 150px; min-width: 0; }
  h1 { font-size: 20px; } h2 { font-size: 15px; } .card .number { font-size: 20px; } .cards { gap: 8px; }
  .cards { grid-template-columns: repeat(5, 1fr); } .card { padding: 6px 10px; } th, td { padding: 3px 10px 3px 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
    + PLOT_CSS
    + "".join(f".s{i} {{ stroke-width: calc({px}px * var(--share, 1)); }}" for i, px in enumerate(MARKER_PX))
)
