"use strict";
// Everything that a model or a document says goes in as text, never as HTML.
const talk = document.getElementById("talk");
const text = document.getElementById("text");
const send = document.getElementById("send");
const key = document.getElementById("key");
const messages = [];
let model = "";

function headers() {
  const found = {"content-type": "application/json"};
  if (key.value) found.authorization = "Bearer " + key.value;
  return found;
}

function turn(role, content) {
  const box = document.createElement("article");
  box.className = role;
  box.textContent = content;
  talk.append(box);
  talk.scrollTop = talk.scrollHeight;
  return box;
}

function foot(box, id, sources) {
  const line = document.createElement("footer");
  for (const [label, rating] of [["good", 1], ["bad", -1]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.onclick = async () => {
      const body = JSON.stringify({request_id: id, rating});
      const reply = await fetch("/v1/feedback", {method: "POST", headers: headers(), body});
      button.textContent = reply.ok ? label + " (kept)" : "not kept";
      button.disabled = true;
    };
    line.append(button);
  }
  if (sources.length) {
    const names = sources.map((s) => s.uri + " (" + s.score.toFixed(2) + ")");
    line.append("sources: " + names.join(", "));
  }
  box.append(line);
}

async function start() {
  const reply = await fetch("/v1/models", {headers: headers()});
  if (reply.status === 401) { key.hidden = false; return; }
  model = (await reply.json()).data[0].id;
  document.getElementById("model").textContent = model;
}

async function ask(question) {
  turn("user", question);
  messages.push({role: "user", content: question});
  const box = turn("assistant", "");
  const body = JSON.stringify({model, messages, stream: true});
  const reply = await fetch("/v1/chat/completions", {method: "POST", headers: headers(), body});
  if (!reply.ok) {
    box.classList.add("error");
    box.textContent = (await reply.json()).error.message;
    messages.pop();
    return;
  }
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", said = "", sources = [];
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: {")) continue;
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) { said += "\n" + chunk.error.message; box.classList.add("error"); }
      if (chunk.sources) sources = chunk.sources;
      said += (chunk.choices && chunk.choices[0] && chunk.choices[0].delta.content) || "";
      box.textContent = said;
      talk.scrollTop = talk.scrollHeight;
    }
  }
  messages.push({role: "assistant", content: said});
  foot(box, reply.headers.get("x-request-id"), sources);
}

document.getElementById("ask").onsubmit = async (event) => {
  event.preventDefault();
  const question = text.value.trim();
  if (!question || send.disabled) return;
  text.value = "";
  send.disabled = true;
  try {
    if (!model) await start();
    await ask(question);
  } catch (error) {
    turn("assistant", "The server does not answer: " + error.message).classList.add("error");
  }
  send.disabled = false;
  text.focus();
};
text.onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    document.getElementById("ask").requestSubmit();
  }
};
start().catch(() => {});
