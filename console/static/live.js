// Pages that list money read themselves anew when a transaction has ended, and say which.
"use strict";
(() => {
  const region = document.getElementById("live");
  const toasts = document.getElementById("toasts");
  if (!region || !toasts || !window.htmx) return;

  const SHOWN_MS = 8000;
  const POLL_MS = 15000;
  const POLLS_MAX = 40;
  const TOASTS_MAX = 3;
  const FIRST_MS = 50;
  const EVERY_MS = 4000;
  let source = null;
  let timer = null;
  let polls = 0;
  let isPaused = false;
  let isDue = false;
  let heard = [];
  let count = 0;
  let isTelling = false;
  let toldAt = -Infinity;

  function refresh() {
    // What somebody uses stays under their hands until they have left it.
    if (region.contains(document.activeElement)) isDue = true;
    else htmx.trigger(region, "ended");
  }
  region.addEventListener("focusout", () => setTimeout(() => {
    if (!isDue || region.contains(document.activeElement)) return;
    isDue = false;
    refresh();
  }));

  function say(text) {
    const toast = document.createElement("p");
    toast.textContent = text;
    toasts.append(toast);
    while (toasts.children.length > TOASTS_MAX) toasts.firstElementChild.remove();
    setTimeout(() => toast.remove(), SHOWN_MS);
  }

  const named = (one) => {
    const kind = one.type.charAt(0).toUpperCase() + one.type.slice(1);
    const amount = one.amount ? ` of ${one.amount} ${one.currency || ""}` : "";
    return `${kind}${amount} ${one.status}`;
  };

  function onEnded(event) {
    const told = JSON.parse(event.data);
    heard.push(...told.transactions.filter((one) => one.type));
    heard = heard.slice(-TOASTS_MAX);
    count += told.count;
    // The first is told at once, and what comes close behind it together.
    if (!isTelling) {
      isTelling = true;
      setTimeout(tell, Math.max(FIRST_MS, toldAt + EVERY_MS - performance.now()));
    }
  }
  function tell() {
    isTelling = false;
    toldAt = performance.now();
    if (count > heard.length) say(`${count} transactions ended`);
    else heard.forEach((one) => say(named(one)));
    [heard, count] = [[], 0];
    refresh();
  }

  function open() {
    if (source || timer || isPaused || document.hidden) return;
    source = new EventSource(region.dataset.stream);
    source.addEventListener("ended", onEnded);
    source.addEventListener("error", () => {
      // A browser connects again by itself, unless it was told that there is nothing.
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        poll();
      }
    });
  }
  function close() {
    if (source) source.close();
    source = null;
    clearInterval(timer);
    timer = null;
  }
  function poll() {
    if (polls >= POLLS_MAX) return;
    timer = setInterval(() => {
      polls += 1;
      if (polls >= POLLS_MAX) close();
      refresh();
    }, POLL_MS);
  }

  const button = document.createElement("button");
  button.className = "plain pause";
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.textContent = "Pause updates";
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    if (isPaused) close();
    else {
      refresh();
      open();
    }
  });
  region.before(button);

  // Browsers open few connections to one host: a page that nobody sees leaves its own to others.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!isPaused) {
      refresh();
      open();
    }
  });
  addEventListener("pagehide", close);
  open();
})();
