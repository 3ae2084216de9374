"""The frame of a report: a page that reads on phones and desktops, in light and in dark."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f23; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --ink: #e6edf3; --soft: #9da7b3; --line: #30363d; --card: #161b22; }
  img { filter: brightness(.88); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .6rem; }
.where, figcaption, .cards span { color: var(--soft); }
.where { margin: 0 0 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .6rem; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
.cards b { display: block; font-size: 1.3rem; }
.wide { overflow-x: auto; }
.wide:has(> table) { margin-bottom: 1rem; }
figure { margin: 0 0 1.5rem; }
img { display: block; background: #fff; border-radius: .5rem; width: auto; height: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
table:not(.pairs) td:not(:first-child) { white-space: nowrap; }
.number { text-align: right; }
tr > :last-child { padding-right: 0; }
.pairs td { overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem;
  white-space: pre-wrap; }
pre span { display: inline-block; }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; margin-bottom: .8rem; }
summary { cursor: pointer; font-weight: 600; }
summary + .where { display: none; }
@media screen and (max-width: 40rem) {
  .wide:has(> img) { cursor: zoom-in; }
  .wide:focus img { max-width: none; }
  figure:first-of-type figcaption::after { content: " Tap a picture to enlarge it."; }
  table { font-size: .85rem; }
  th, td { padding-right: .5rem; }
}
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
"""
