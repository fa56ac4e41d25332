"""The login page: one field, no script, nothing from elsewhere."""

from __future__ import annotations

import html


def login_page(path: str, target: str, wrong: bool) -> str:
    """A page with one field; its form goes to `path`, and from there on to `target`."""
    words = (
        "That was not the token." if wrong else "The token is STEPSTREAM_DASHBOARD_TOKEN of the dashboard."
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>stepstream: log in</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><style>
body {{ font: 14px system-ui; display: grid; place-items: center; min-height: 90vh; margin: 0;
       background: light-dark(#f7f8fa, #0f1115); color: light-dark(#16191f, #e6e8ec) }}
form {{ display: grid; gap: 12px; width: 280px; padding: 24px; border-radius: 6px;
       border: 1px solid light-dark(#e3e6eb, #2a2f3a); background: light-dark(#fff, #16191f) }}
input, button {{ font: inherit; height: 32px; border-radius: 6px; padding: 0 8px;
       border: 1px solid light-dark(#8b94a3, #5c6573); background: transparent; color: inherit }}
button {{ background: light-dark(#0b62d6, #6aa8ff); color: light-dark(#fff, #0f1115); border: 0;
       font-weight: 600 }}
h1 {{ font-size: 20px; margin: 0 }} p {{ margin: 0; color: light-dark(#5c6573, #9aa3b2) }}</style></head>
<body><form method="post" action="{html.escape(path)}"><h1>stepstream</h1>
<label for="token">Token</label><input id="token" name="token" type="password" autofocus required>
<input type="hidden" name="next" value="{html.escape(target, quote=True)}">
<button>Log in</button><p role="status">{words}</p></form></body></html>"""
