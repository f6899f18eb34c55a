// Loads the API's document and shows it; where the document needs a key, asks for one first. The key is kept in
// memory only: it goes into the headers of requests to this host, and nowhere else.

const viewer = document.querySelector("rapi-doc");
const form = document.querySelector("form");
const input = document.querySelector("input");
const complaintBox = document.querySelector("[role=alert]");

async function open(key) {
  const response = await fetch(document.body.dataset.document, {
    cache: "no-store",
    credentials: "omit",
    headers: key ? { Authorization: `Bearer ${key}` } : {},
  });
  if (response.status === 401) return ask("This key is not accepted.");
  if (!response.ok) return ask(`The document can not be had now (status ${response.status}).`);
  await show(await response.json(), key);
}

function ask(complaint) {
  complaintBox.textContent = complaint;
  form.hidden = false;
  input.focus();
}

async function show(description, key) {
  form.hidden = true;
  complaintBox.textContent = "";
  viewer.setAttribute("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  viewer.hidden = false;
  await viewer.loadSpec(description);
  if (key) viewer.setApiKey("bearer", key);
}

function start(key) {
  open(key).catch(() => ask("The gateway can not be reached, or the key is no text that a header can hold."));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const key = input.value.trim();
  input.value = "";
  start(key);
});
if (document.body.dataset.key === "required") ask("");
else start("");
