"use strict";
// Keeps a page up to date: on each change it fetches the page again and replaces the parts that differ.
// Without this script the page shows the state at the time it was loaded.
(() => {
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  if (!live) return; // not signed in
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const UNITS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const TOLERANCE = 300; // seconds
  let ahead = 0; // milliseconds by which the server's clock is ahead of ours

  // Times, in the same words as the server's (syncd/units.py, and `due` in parts.py).

  const span = (seconds) => {
    const [size, unit] = UNITS.find(([length]) => seconds >= length) || [1, "second"];
    const number = Math.max(0, Math.floor(seconds / size));
    return `${number.toLocaleString("en")} ${unit}${number === 1 ? "" : "s"}`;
  };

  const words = {
    ago: (left) => (left > TOLERANCE ? "in the future" : `${span(-left)} ago`),
    due: (left) => (left < -TOLERANCE ? "overdue" : left > 0 ? `in ${span(left)}` : "now"),
  };

  const setClock = (page) => {
    ahead = Date.parse(page.documentElement.dataset.now) - Date.now();
  };

  const showTimes = (page) => {
    const now = Date.now() + ahead;
    for (const time of page.querySelectorAll("time[data-tick]")) {
      const text = words[time.dataset.tick]((Date.parse(time.dateTime) - now) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Parts of the page: replace those that differ, and keep the focus and what the reader has opened.

  const focused = (part) => {
    const at = document.activeElement;
    if (!part.contains(at)) return null;
    const where = at.getAttribute("href");
    return where ? `a[href="${CSS.escape(where)}"]` : at.localName;
  };

  const put = (fresh) => {
    const old = document.getElementById(fresh.id);
    if (!old) return false;
    for (const open of old.querySelectorAll("details[open]")) {
      fresh.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    if (old.isEqualNode(fresh)) return true;
    const focus = focused(old);
    old.replaceWith(fresh);
    if (focus) fresh.querySelector(focus)?.focus({ preventScroll: true });
    if (!calm.matches && fresh.localName === "section") fresh.animate({ opacity: [0.6, 1] }, 400);
    return true;
  };

  const show = (state, text) => {
    if (live.textContent === text) return;
    live.dataset.state = state;
    live.textContent = text;
  };

  let stream;
  let busy = false;
  let more = false;

  const refresh = async () => {
    if (document.hidden || busy) {
      more = true;
      return;
    }
    busy = true;
    more = false;
    try {
      const answer = await fetch(location.pathname + location.search, { cache: "no-store", redirect: "manual" });
      if (answer.type === "opaqueredirect") return location.reload(); // to sign in
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      setClock(page);
      showTimes(page);
      document.title = page.title;
      const there = [...page.querySelectorAll("[data-live]")].map(put);
      if (there.includes(false)) location.reload();
      if (stream.readyState === EventSource.OPEN) show("live", "Live");
    } catch {
      show("lost", "Not updated");
    } finally {
      busy = false;
      if (more && !document.hidden) refresh();
    }
  };

  // The stream.

  const announce = ({ lists }) => {
    const changes = Object.entries(lists).map(([name, version]) => `${name}: version ${version}`);
    if (changes.length) said.textContent = changes.join(", ");
  };

  const listen = () => {
    const events = new EventSource("/dashboard/events");
    stream = events;
    events.onopen = () => {
      show("live", "Live");
      refresh(); // something may have changed in the meantime
    };
    events.onerror = () => {
      show("lost", "Reconnecting");
      if (events.readyState === EventSource.CLOSED) {
        refresh(); // the session may have ended
        setTimeout(listen, 10000);
      }
    };
    events.addEventListener("tick", (event) => {
      announce(JSON.parse(event.data));
      refresh();
    });
    events.addEventListener("ended", () => {
      events.close();
      location.reload();
    });
  };

  setClock(document);
  setInterval(() => showTimes(document), 5000);
  setInterval(refresh, 60000); // states such as "stale" change without any event
  document.addEventListener("visibilitychange", () => more && refresh());
  listen();
})();
