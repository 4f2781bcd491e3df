// Runs in the isolated world of the window. The page gets three functions and not the port.
const { contextBridge, ipcRenderer } = require("electron");

let port = null;
let listener = () => {};
let nextId = 1;
const early = [];

function deliver(message) {
  listener(message);
}

ipcRenderer.on("model-port", (event) => {
  port = event.ports[0];
  port.onmessage = ({ data }) => deliver(data);
  deliver({ type: "connected" });
  for (const message of early.splice(0)) port.postMessage(message);
});

function send(message) {
  if (port === null) early.push(message);
  else port.postMessage(message);
}

contextBridge.exposeInMainWorld("cllm", {
  /** This function gets every message of model-process.js, and `connected` when there is a new process. */
  onMessage: (callback) => {
    listener = callback;
  },
  /** Asks for an answer to the whole conversation; returns the id that its messages carry. */
  generate: (messages) => {
    const id = nextId++;
    send({ type: "generate", id, messages });
    return id;
  },
  stop: (id) => send({ type: "stop", id }),
});
