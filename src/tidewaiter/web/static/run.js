"use strict";
// A run as it goes on: lines of its log as they are said, and what stands above them drawn anew by the server.
// Without this script the page is whole, as of when it was loaded.

const now = document.getElementById("now");
const log = document.getElementById("log");
const said = document.getElementById("log-state");
const most = 5000; // lines; the oldest go first
const rest = 1000; // ms between two looks at what stands above

if (now.dataset.ended === "no") {
  const path = `/pipelines/${encodeURIComponent(now.dataset.run)}`;
  let due = 0;
  let asking = false;
  let again = false;
  let ended = false;

  async function draw() {
    if (asking) {
      again = true; // what is under way may be from before
      return;
    }
    asking = true;
    try {
      const answer = await fetch(`${path}/now`, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const open = new Set([...now.querySelectorAll(".steps > li")].flatMap((one, i) => one.querySelector("details[open]") ? [i] : []));
        now.replaceChildren(...page.body.childNodes);
        now.querySelectorAll(".steps > li").forEach((one, i) => {
          const details = one.querySelector("details");
          if (details && open.has(i)) details.open = true;
        });
        if (ended) clearInterval(looking);
      }
    } catch {
      // The next look tries again.
    } finally {
      asking = false;
      due = Date.now() + rest;
      if (again) {
        again = false;
        draw();
      }
    }
  }

  const looking = setInterval(() => { if (Date.now() >= due) draw(); }, rest);
  const stream = new EventSource(`/api/v1${path}/log/stream?after=${log.dataset.last}`);

  stream.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const shown = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = line.at;
    time.textContent = line.at.slice(11, 19);
    const step = document.createElement("span");
    step.className = "step";
    step.textContent = line.step;
    const text = document.createElement("span");
    text.className = "said";
    text.textContent = line.text; // text, never HTML: it comes from builds
    shown.append(time, " ", step, " ", text);
    log.append(shown);
    while (log.childElementCount > most) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  });

  stream.addEventListener("end", () => {
    ended = true;
    stream.close();
    said.textContent = "";
    draw();
  });

  stream.addEventListener("error", () => { if (!ended) said.textContent = "the server is silent; it is asked again"; });
  stream.addEventListener("open", () => { said.textContent = "as it is said"; });
}
log.scrollTop = log.scrollHeight;
