"""The look of the report page: screen and A4 print, no script, nothing from outside."""

CSS = """
:root { --ink: #22303c; --muted: #5f6c77; --line: #dfe4e8; --soft: #f5f7f8; --blue: #35678b; --bad: #a63f2a;
  --warn: #8a5a00; --warn-soft: #fdf3da; --ok-soft: #eaf3ee; --ok: #2d6a4b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 36px 28px 60px; color: var(--ink); background: white;
  font: 15px/1.5 "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 14px; margin-bottom: 24px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 38px 0 10px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 6px 0 10px; }
.muted, figcaption { color: var(--muted); }
.badge { display: inline-block; padding: 1px 9px; border-radius: 9px; font-size: 12px; font-weight: 600;
  vertical-align: middle; background: var(--warn-soft); color: var(--warn); border: 1px solid #ecd9a6; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 14px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.card .what { color: var(--muted); font-size: 13px; }
.card .number { font-size: 29px; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .words { font-size: 13.5px; }
.note { border-left: 4px solid var(--line); background: var(--soft); padding: 10px 16px; margin: 14px 0; }
.note.warn { border-color: #d9a520; background: var(--warn-soft); }
.note.ok { border-color: var(--ok); background: var(--ok-soft); }
.note p { margin: 3px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: 12.5px; border-bottom: 1px solid var(--ink); }
th, td { padding: 6px 14px 6px 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
td.key + td { overflow-wrap: anywhere; }
td.wrong { white-space: nowrap; }
th.count, td.count { text-align: right; width: 84px; }
td.key { width: 310px; color: var(--muted); }
svg.interval { width: 170px; height: 14px; vertical-align: -2px; margin-right: 10px; }
figure { margin: 18px 0 26px; }
figure img { width: 100%; max-width: 1200px; border: 1px solid var(--line); border-radius: 4px; display: block; }
code { font: 12.5px/1.4 ui-monospace, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
ul { margin: 6px 0; padding-left: 20px; }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); font-size: 13px; color: var(--muted); }
@page { size: A4; margin: 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 11.5px; }
  h2, h3 { break-after: avoid; } tr, .card, .note { break-inside: avoid; }
  figure { break-inside: avoid; } figure img { max-height: 245mm; width: auto; max-width: 100%; }
  table { font-size: 11px; } th { font-size: 10px; } th, td { padding: 3px 10px 3px 0; } td.key { width: 220px; }
  th.count, td.count { width: 62px; } svg.interval { width: 120px; } h1 { font-size: 20px; } h2 { font-size: 14px; }
  .card .what, .card .words, footer { font-size: 10.5px; } .cards { gap: 8px; }
  .cards { grid-template-columns: repeat(4, 1fr); } .card { padding: 8px 10px; } .card .number { font-size: 20px; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
