// Names the tools that a build needs and this machine lacks, with the command that installs them.
//   node scripts/preflight.mjs [install]     "install" means that node-gyp runs the build; node-gyp needs Python
import { Failure, main, output, say } from "./common.mjs";

// For each package manager: its verb, then its packages for C++ compiler and make, cmake, git, python3.
const managers = {
  "apt-get": ["install -y", "build-essential", "cmake", "git", "python3"],
  dnf: ["install -y", "gcc-c++ make libstdc++-static", "cmake", "git", "python3"],
  yum: ["install -y", "gcc-c++ make libstdc++-static", "cmake", "git", "python3"],
  apk: ["add", "build-base linux-headers", "cmake", "git", "python3"],
  pacman: ["-S --noconfirm", "base-devel", "cmake", "git", "python"],
  zypper: ["install -y", "gcc-c++ make", "cmake", "git", "python3"],
  brew: ["install", "", "cmake", "git", "python3"],
  winget: ["install", "Microsoft.VisualStudio.2022.BuildTools", "Kitware.CMake", "Git.Git", "Python.Python.3.13"],
};

const has = (...commands) => commands.some((command) => command && output(command, ["--version"]) !== null);

const tools = [
  {
    name: "a C++ compiler and make (or ninja)",
    // On Windows CMake finds Visual Studio outside PATH.
    found: () =>
      process.platform === "win32" || (has(process.env.CXX, "c++", "g++", "clang++") && has("ninja", "make")),
  },
  {
    name: "cmake 3.19 or newer",
    found: () => {
      const [, major, minor] = /version (\d+)\.(\d+)/.exec(output("cmake", ["--version"]) ?? "") ?? [];
      return Number(major) > 3 || (Number(major) === 3 && Number(minor) >= 19);
    },
  },
  { name: "git", found: () => has("git") },
  { name: "python3 (node-gyp needs it)", found: () => has(process.env.PYTHON, "python3", "python"), gyp: true },
];

/** The command that installs the tools with these indices in `tools`. */
function installCommand(indices) {
  const candidates = { darwin: ["brew"], win32: ["winget"] }[process.platform] ?? Object.keys(managers);
  const manager = candidates.find((name) => has(name));
  if (process.platform === "darwin" && indices.includes(0)) return "xcode-select --install";
  if (!manager) return null;
  const [verb, ...packages] = managers[manager];
  const sudo = process.getuid?.() && manager !== "brew" ? "sudo " : "";
  return `${sudo}${manager} ${verb} ${indices.map((index) => packages[index]).join(" ")}`;
}

/** Throws a Failure that names every missing tool. `gyp`: whether node-gyp runs the build. */
export function preflight({ gyp = false } = {}) {
  if (Number(process.versions.node.split(".")[0]) < 20) {
    throw new Failure(`Node 20 or newer is needed, this is ${process.version}: see https://nodejs.org`);
  }
  const missing = tools.map((tool, index) => (tool.found() ? -1 : index)).filter((index) => index >= 0);
  const needed = missing.filter((index) => gyp || !tools[index].gyp);
  const list = (indices) => indices.map((index) => tools[index].name).join(", ");
  const hint = (indices) => {
    const command = installCommand(indices);
    return command ? `Install with:\n  ${command}` : "Install with your system's package manager.";
  };
  if (needed.length > 0)
    throw new Failure(`Building from source needs what is missing here: ${list(missing)}.\n${hint(missing)}`);
  if (missing.length > 0)
    say(`Note: missing ${list(missing)}; only \`npm install\` from source needs it. ${hint(missing)}`);
}

await main(import.meta.url, ([mode]) => preflight({ gyp: mode === "install" }));
