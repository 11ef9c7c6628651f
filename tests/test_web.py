"""The HTTP side, asked over real sockets."""

import httpx

from web_site import running
from world import World


def test_a_daemon_that_lives_says_so(standing: World) -> None:
    """Without a token."""
    with running(standing) as web:
        answer = httpx.get(f"{web.url}/healthz")
        assert (answer.status_code, answer.text) == (200, "ok\n")
        ready = httpx.get(f"{web.url}/readyz")
        assert (ready.status_code, ready.text) == (200, "ready: 1 list, 0 not proved, 0 stale\n")
        t = web.add("t")
        poll = httpx.get(f"{web.url}/feed/metadata/timestamp.json", headers=t)
        assert poll.status_code == 200
        again = httpx.get(
            f"{web.url}/feed/metadata/timestamp.json", headers={**t, "If-None-Match": poll.headers["etag"]}
        )
        assert again.status_code == 304
        with httpx.stream("GET", f"{web.url}/api/v1/events", headers=t) as s:
            for line in s.iter_lines():
                print(line)
                if line.startswith("data"):
                    break
