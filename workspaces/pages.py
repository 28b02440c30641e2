"""Pages for browsers: the list of workspaces, and the one that waits for a session. Nothing in them is of others."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web

_ICON = (
    '<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">'
    '<path d="M9 2h5v5M14 2 7 9M12 9v5H2V4h5" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
)
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}"
    "li{margin:.4rem 0}"
)
REFERENCE = (
    "body{max-width:72rem;margin:1.5rem auto}"
    "h1,h2,h3{line-height:1.25}h2{margin:3rem 0 .5rem}h3{margin:2.2rem 0 .4rem;font-size:1.05rem}"
    "nav h2{margin:1.4rem 0 .2rem;font-size:1.05rem}p{margin:.4rem 0}"
    "h2>a[aria-label],h3>a[aria-label]{text-decoration:none;opacity:.45}"
    "h3:target,h2:target{background:#8883;outline:.3rem solid #8883}"
    "code{font:.92em/1.4 ui-monospace,monospace;overflow-wrap:anywhere}"
    "td a,nav a{text-decoration:none}td a:hover,nav a:hover{text-decoration:underline}"
    "div{overflow-x:auto;margin:.5rem 0}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #8884}"
    "th{font-weight:600;font-size:.85rem}td:first-child{width:14rem}nav td:first-child{width:30rem}"
    "summary{cursor:pointer;margin:.5rem 0}"
    "@media(max-width:40rem){td:first-child,nav td:first-child{width:auto}}"
)
"""Style of the page of the API, in addition."""
_WAIT = """
const said = document.getElementById('said'), checked = document.getElementById('checked');
const address = new URL(location.href);
address.searchParams.set('format', 'json');
async function look() {
  address.searchParams.set('ts', Date.now());
  checked.textContent = address.pathname;
  try {
    const answer = await fetch(address, {headers: {Accept: 'application/json'}, cache: 'no-store'});
    const body = await answer.json();
    if (answer.status === 200 && /^https?:/.test(body.url || '')) {
      said.textContent = 'Ready: ' + body.url;
      setTimeout(() => location.replace(body.url), 3000);
      return;
    }
    if (answer.status >= 400 && answer.status < 500) {
      said.textContent = 'This session cannot be opened.';
      return;
    }
  } catch (error) {
    said.textContent = 'No answer; trying again.';
  }
  setTimeout(look, 10000);
}
look();
"""


def workspaces(rows: Sequence[Mapping[str, Any]]) -> str:
    """The list, with a link to each workspace and to its started sessions."""
    items = "".join(f"<li>{_link(row['url'], row['name'])}{_sessions(row['sessions'])}</li>" for row in rows)
    listed = f"<ul>{items}</ul>" if rows else "<p>No workspaces available.</p>"
    return page("Workspaces", listed)


def _sessions(rows: Sequence[Mapping[str, Any]]) -> str:
    items = "".join(f"<li>{_link(row['url'], 'Datalab (' + row['name'] + ')')}</li>" for row in rows)
    return f"<ul>{items}</ul>" if items else ""


def _link(url: str, name: str) -> str:
    return f'<a href="{html.escape(url)}">{html.escape(name)} {_ICON}</a>'


def waiter(workspace: str, session: str) -> str:
    """A page that asks its own address until the session is ready, and then leads there."""
    title = f"Session {session} of {workspace}"
    body = (
        '<p id="said" role="status">The session is starting.</p>'
        '<p>Checked every 10 seconds: <code id="checked"></code></p>'
        f"<script>{_WAIT}</script>"
    )
    return page(title, body)


def page(title: str, body: str, style: str = "") -> str:
    """A page with this title; `body` is HTML, `style` is what is added to that of all pages."""
    said, more = html.escape(title), f"<style>{style}</style>" if style else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{said}</title><style>{_STYLE}</style>{more}</head><body><h1>{said}</h1>{body}</body></html>\n"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)} {_source(REFERENCE)}; script-src {_source(_WAIT)}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def answer(text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page as it is sent."""
    more = {
        hdrs.CACHE_CONTROL: "no-store",
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        **(headers or {}),
    }
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=more)
