import { readFileSync } from "node:fs";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { rootCertificates } from "node:tls";
import type { Access } from "./http.js";

/** The part of pip's settings that says where packages come from. */
export interface PipSettings {
  /** Simple indexes in the order in which they are asked. */
  indexes: URL[];
  /** Hosts that pip would reach without TLS. */
  trustedHosts: ReadonlySet<string>;
  /** File of certificate authorities, or null. */
  cert: string | null;
}

/**
 * Reads pip's own settings, so that anyone who can `pip install` a model can pull it: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL,
 * PIP_CERT, PIP_TRUSTED_HOST, or the same keys of pip's configuration files, environment first, as in
 * https://pip.pypa.io/en/stable/topics/configuration/. A file that cannot be read is skipped, as pip does.
 */
export function pipSettings(env: NodeJS.ProcessEnv = process.env, platform: string = process.platform): PipSettings {
  const values = new Map<string, string>();
  for (const file of configFiles(env, platform)) {
    for (const [key, value] of readConfig(file)) values.set(key, value);
  }
  const setting = (key: string): string | undefined =>
    env[`PIP_${key.toUpperCase().replaceAll("-", "_")}`] || values.get(key);
  const words = (key: string): string[] => (setting(key) ?? "").split(/\s+/).filter((word) => word !== "");
  const urls = [setting("index-url") ?? "https://pypi.org/simple", ...words("extra-index-url")];
  return {
    indexes: urls.filter((url) => URL.canParse(url)).map((url) => new URL(url)),
    trustedHosts: new Set(words("trusted-host").map((host) => host.replace(/:\d+$/, ""))),
    cert: setting("cert") ?? env.REQUESTS_CA_BUNDLE ?? env.CURL_CA_BUNDLE ?? null,
  };
}

/** Returns how to reach `index`: its user and password become a header, and pip's certificates are trusted. */
export function pipAccess(settings: PipSettings, index: URL): Access {
  const authorization = basicAuthorization(index);
  const agent = agentFor(settings.cert);
  return {
    insecureHosts: settings.trustedHosts,
    ...(authorization && { authorization }),
    ...(agent && { agent }),
  };
}

/** The Authorization header for the user and password in a URL; undefined where it has none. */
export function basicAuthorization(url: URL): string | undefined {
  if (url.username === "" && url.password === "") return undefined;
  const text = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return `Basic ${Buffer.from(text).toString("base64")}`;
}

function agentFor(cert: string | null): https.Agent | undefined {
  if (cert === null) return undefined;
  // `ca` replaces Node's list and NODE_EXTRA_CA_CERTS, so it holds all three together.
  const ca: string[] = [...rootCertificates];
  for (const file of new Set([cert, process.env.NODE_EXTRA_CA_CERTS])) {
    if (file === undefined) continue;
    try {
      ca.push(readFileSync(file, "utf8"));
    } catch {
      // The file is a directory of certificates, or gone. The request will fail if it was needed.
    }
  }
  return new https.Agent({ ca, keepAlive: false });
}

/** Lists pip's configuration files; a later file overrides the ones before it. */
function configFiles(env: NodeJS.ProcessEnv, platform: string): string[] {
  if (env.PIP_CONFIG_FILE === os.devNull) return [];
  const home = os.homedir();
  const files: string[] = [];
  if (platform === "win32") {
    const roaming = env.APPDATA ?? path.join(home, "AppData", "Roaming");
    files.push(path.join(env.ProgramData ?? "C:\\ProgramData", "pip", "pip.ini"));
    files.push(path.join(home, "pip", "pip.ini"), path.join(roaming, "pip", "pip.ini"));
  } else {
    const system = platform === "darwin" ? "/Library/Application Support" : (env.XDG_CONFIG_DIRS ?? "/etc/xdg");
    files.push(
      ...system
        .split(":")
        .reverse()
        .map((directory) => path.join(directory, "pip", "pip.conf")),
    );
    files.push("/etc/pip.conf", path.join(home, ".pip", "pip.conf"));
    files.push(path.join(env.XDG_CONFIG_HOME || path.join(home, ".config"), "pip", "pip.conf"));
    if (platform === "darwin") files.push(path.join(home, "Library", "Application Support", "pip", "pip.conf"));
  }
  if (env.VIRTUAL_ENV) files.push(path.join(env.VIRTUAL_ENV, platform === "win32" ? "pip.ini" : "pip.conf"));
  if (env.PIP_CONFIG_FILE) files.push(env.PIP_CONFIG_FILE);
  return files;
}

/** Reads a Python configparser file: the keys of [global], overridden by those of the commands that fetch. */
function readConfig(file: string): Map<string, string> {
  const sections = new Map<string, Map<string, string>>();
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return new Map();
  }
  let section = new Map<string, string>();
  let lastKey: string | null = null;
  for (const line of text.split(/\r?\n/)) {
    const header = /^\[(.+)\]\s*$/.exec(line);
    const pair = /^([^\s=:#;][^=:]*?)\s*[=:]\s*(.*?)\s*$/.exec(line);
    if (header !== null) {
      section = new Map();
      sections.set(header[1] as string, section);
      lastKey = null;
    } else if (/^\s*([#;]|$)/.test(line)) {
      // The line is empty or a comment.
    } else if (/^\s/.test(line) && lastKey !== null) {
      section.set(lastKey, `${section.get(lastKey)} ${line.trim()}`.trim());
    } else if (pair !== null) {
      lastKey = (pair[1] as string).toLowerCase().replaceAll("_", "-");
      section.set(lastKey, pair[2] as string);
    }
  }
  return new Map([
    ...(sections.get("global") ?? []),
    ...(sections.get("download") ?? []),
    ...(sections.get("install") ?? []),
  ]);
}
