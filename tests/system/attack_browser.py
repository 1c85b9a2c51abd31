"""A page of a stranger in a real browser, with an operator's session in the same browser: it tries every port."""

from __future__ import annotations

import http.server
import threading

from playwright.sync_api import Page, sync_playwright

from tests.support.chromium import ARGUMENTS, CHROMIUM
from tests.system.attacked import PASSWORD, AttackedProgram, Figure

MAIL = (
    "EHLO x\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<info@local.example>\r\nDATA\r\nX-Number: page\r\n\r\nx\r\n.\r\n"
)
# Each kind of request that a page may make without asking: text, a form as text, a websocket, with the cookies.
SCRIPT = """
async ([ports, mail]) => {
  const wait = (ms) => new Promise(done => setTimeout(done, ms));
  const tried = [], readable = [];
  for (const [name, port] of Object.entries(ports)) {
    for (const scheme of ['http', 'https']) {
      const base = `${scheme}://127.0.0.1:${port}`;
      const message = '{"recipient": "info@local.example", "mime": "x"}';
      for (const [path, method, body] of [
        ['/', 'POST', mail], ['/logout', 'POST', ''], ['/api/v1/pauses', 'POST', '{}'],
        ['/api/v1/messages', 'POST', message], ['/settings', 'GET', null], ['/metrics', 'GET', null],
      ]) {
        tried.push(`${method} ${base}${path}`);
        const options = {method, body, mode: 'no-cors', credentials: 'include'};
        await Promise.race([fetch(base + path, options).catch(() => 0), wait(1500)]);
        const open = {method, body, credentials: 'include'};
        await Promise.race([fetch(base + path, open).then(a => a.text()).then(t => readable.push(base + path), () => 0),
                            wait(1500)]);
      }
      const frame = document.body.appendChild(document.createElement('iframe'));
      frame.name = `f${port}${scheme}`;
      const form = document.body.appendChild(document.createElement('form'));
      form.action = base + '/logout'; form.method = 'post'; form.enctype = 'text/plain'; form.target = frame.name;
      const field = form.appendChild(document.createElement('textarea'));
      field.name = 'x'; field.value = mail;
      form.submit();
      await wait(300);
      const socket = base.replace('http', 'ws') + '/_nicegui_ws/socket.io/?EIO=4&transport=websocket';
      try { new WebSocket(socket); } catch (e) {}
    }
  }
  await wait(1000);
  return [tried.length, readable];
}
"""


def page(target: AttackedProgram) -> list[Figure]:
    """What it can do: no mail, no logout, no rule, nothing that it can read."""
    before = target.settled()
    with _Site() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(ignore_https_errors=True)
        operator, evil = context.new_page(), context.new_page()
        operator.goto(f"https://127.0.0.1:{target.https_port}/login")
        operator.fill("#password", PASSWORD)
        operator.click("button[type=submit]")
        operator.wait_for_url(lambda url: "/login" not in url)
        evil.goto(f"http://127.0.0.1:{site.port}/")
        tried, readable = evil.evaluate(SCRIPT, [target.ports, MAIL])
        stays = _is_in(operator, target)
        browser.close()
    mails = target.settled() - before
    with target.token() as api:
        rules = len(api.get("/api/v1/pauses").json())
    figure = f"{mails} mails, {rules} rules, {len(readable)} answers read, the session {'stays' if stays else 'ended'}"
    right = (mails, rules, len(readable), stays) == (0, 0, 0, True)
    return [Figure(f"a page in Chromium, {tried} requests to every port", figure, "0, 0, 0, stays", right)]


def _is_in(operator: Page, target: AttackedProgram) -> bool:
    """Whether the operator still is logged in."""
    operator.goto(f"https://127.0.0.1:{target.https_port}/settings")
    return "/login" not in operator.url


class _Site:
    """A web site of somebody else: one empty page."""

    def __enter__(self) -> _Site:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _EmptyPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>x</title><body></body>")

    def log_message(self, *_: object) -> None:
        """Nothing is said."""
