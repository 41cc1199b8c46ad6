// Shows what this Fieldpost does, every two seconds. Whatever comes from the server is set as text, never as markup.

const REFRESH_MILLISECONDS = 2000;
const TIMEOUT_MILLISECONDS = 10000;
const SHOWN_REQUESTS = 30;
const KEY = "fieldpost-operator-key";

const at = (id) => document.getElementById(id);
let about = null;
let skewMilliseconds = 0;
let shown = "";
const unfolded = new Set();

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The key comes in the fragment, which is never sent to a server, and leaves the address bar at once.
function takeKeyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return;
  sessionStorage.setItem(KEY, key);
  history.replaceState(null, "", location.pathname + location.search);
}

async function ask(path, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS) });
  const date = Date.parse(answer.headers.get("date"));
  if (date) skewMilliseconds = date - Date.now();
  return answer;
}

function ago(time) {
  const seconds = Math.max(0, Math.round((Date.now() + skewMilliseconds - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
}

function setState(text, className) {
  at("state").textContent = text;
  at("state").className = `state ${className}`;
}

function setNumber(name, value) {
  document.querySelector(`[data-number="${name}"]`).textContent = value.toLocaleString("en");
}

function sum(metrics, name, isCounted = () => true) {
  let total = 0;
  for (const [, of, labels, value] of metrics.matchAll(/^(\w+)(\{[^}]*\})? (\S+)$/gm)) {
    if (of === name && isCounted(labels ?? "")) total += Number(value);
  }
  return total;
}

async function showNumbers() {
  const metrics = await (await ask("/metrics")).text();
  const isAnswered = (labels) => labels.includes('"succeeded"');
  setNumber("accepted", sum(metrics, "fieldpost_requests_accepted_total"));
  setNumber("answered", sum(metrics, "fieldpost_requests_finished_total", isAnswered));
  setNumber("ended", sum(metrics, "fieldpost_requests_finished_total", (labels) => !isAnswered(labels)));
  setNumber("sessions", sum(metrics, "fieldpost_hub_sessions"));
}

async function showAbout() {
  about = await (await ask("/page/about")).json();
  at("about").textContent =
    `version ${about.version} · up for ${ago(about.started_at)} · answered by ${about.default_model}`;
}

async function showOperatorsPart() {
  const key = sessionStorage.getItem(KEY);
  at("unlock").hidden = Boolean(key);
  at("forget").hidden = !key;
  if (!key) return;
  const answer = await ask(`/admin/requests?limit=${SHOWN_REQUESTS}`, key);
  if (answer.status === 401) {
    forget();
    at("refused").hidden = false;
    return;
  }
  at("refused").hidden = true;
  if (!answer.ok) return;
  showRequests((await answer.json()).requests);
  const queues = await ask("/admin/queues", key);
  if (queues.ok) setNumber("queued", (await queues.json()).queues.reduce((total, queue) => total + queue.depth, 0));
}

function showRequests(requests) {
  at("nothing").hidden = requests.length > 0;
  const now = JSON.stringify(requests);
  if (now !== shown) {
    shown = now;
    at("requests").replaceChildren(...requests.map(requestItem));
  }
  for (const time of document.querySelectorAll("#requests time")) time.textContent = `${ago(time.dateTime)} ago`;
}

function requestItem(request) {
  const item = element("li");
  const facts = element("p", "facts");
  const time = element("time");
  time.dateTime = request.accepted_at;
  facts.append(
    element("span", `status ${request.status}`, request.status),
    element("span", "", `device ${request.device_id}`),
    element("span", "", request.channel),
    element("span", "", request.model),
    time,
  );
  item.append(facts, element("p", "question", request.question), ...answerOf(request));
  return item;
}

function answerOf(request) {
  const response = request.response;
  if (!response) return [];
  if (!response.output) {
    const error = response.error ?? {};
    return [element("p", "answer problem", [error.title, error.detail].filter(Boolean).join(" ") || response.status)];
  }
  const text = element("p", "answer", response.output.text);
  const parts = [text];
  if (response.output.text.length > 300) parts.push(unfoldButton(request.id, text));
  const sources = (response.output.sources ?? []).map((source) => [source.file, source.heading].filter(Boolean).join(" › "));
  if (sources.length) parts.push(element("p", "sources", sources.join("  ·  ")));
  return parts;
}

function unfoldButton(id, text) {
  const button = element("button", "plain more");
  const apply = () => {
    text.classList.toggle("folded", !unfolded.has(id));
    button.textContent = unfolded.has(id) ? "less" : "all of it";
  };
  button.type = "button";
  button.addEventListener("click", () => {
    if (!unfolded.delete(id)) unfolded.add(id);
    apply();
  });
  apply();
  return button;
}

function forget() {
  sessionStorage.removeItem(KEY);
  shown = "";
  at("requests").replaceChildren();
  at("nothing").hidden = true;
  at("forget").hidden = true;
  at("unlock").hidden = false;
  document.querySelector('[data-number="queued"]').textContent = "–";
}

function commands(model) {
  const url = location.origin;
  const isDefault = url === "http://127.0.0.1:5000";
  const where = isDefault ? "" : ` --url ${url}`;
  const question = "How long may a driver drive without a break?";
  return {
    add: `fieldpost devices add --kind truck --name "Truck 17"${where}`,
    send: `export FIELDPOST_KEY=fp_…\nfieldpost send "${question}" --wait${where}`,
    curl: `curl ${url}/v1/requests \\
  -H "Authorization: Bearer $FIELDPOST_KEY" -H "Content-Type: application/json" \\
  -H "Prefer: wait=30" -d '{"input": {"prompt": "${question}"}}'`,
    openai: `from openai import OpenAI

client = OpenAI(base_url="${url}/v1", api_key="fp_…")
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "${question}"}],
)
print(answer.choices[0].message.content)`,
  };
}

function showCommands(model) {
  const texts = commands(model);
  for (const place of document.querySelectorAll("[data-command]")) {
    const text = texts[place.dataset.command];
    const code = element("code", "", text);
    code.tabIndex = 0;
    const button = element("button", "", "copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    place.replaceChildren(code, button);
  }
}

async function refresh() {
  try {
    const known = about?.default_model;
    await showAbout();
    if (about.default_model !== known) showCommands(about.default_model);
    const ready = await ask("/ready");
    setState(ready.ok ? "running" : "not ready", ready.ok ? "good" : "bad");
    await showNumbers();
    await showOperatorsPart();
  } catch {
    setState("not reachable", "bad");
  }
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MILLISECONDS);
}

at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  refresh();
});
at("forget").addEventListener("click", forget);
addEventListener("hashchange", () => { takeKeyFromAddress(); refresh(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

takeKeyFromAddress();
showCommands("library");
keepFresh();
