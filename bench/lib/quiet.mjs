// Whether other programs use the CPU: before anything is timed (waitForQuiet), and while rounds are measured (RoundWatch).
// Load averages are no help, because they lag by a minute. What the system counts as CPU time, less what this process and
// its children used, is what others used. os.cpus() reads /proc/stat on Linux, in ticks of 10 ms.
import fs from "node:fs";
import os from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Cores that others may use: 5% of one, however many there are. Threads that compute together wait for the slowest of them
 * after each product, so what one core loses, all lose, and the goals of the benches are met or missed by 2 or 3%. A system
 * without users takes about 1% of a core.
 */
const QUIET_CORES = 0.05;
/** Seconds over which the CPU time of others is taken before a bench: 100 ticks. */
const WINDOW = 1;
/** How often a busy machine is looked at before the bench gives up, and the seconds between. */
const TRIES = 4;
const PAUSE = 4;
/** Seconds by which ticks and the process's own account may part in a round, however short it is. */
const ACCOUNTING_ERROR = 0.05;
/** Calls of work() in a calibration: about 20 ms on a server of 2024. */
const CALIBRATION_CALLS = 160;
/** How far apart calibrations may be, slower over faster. On an idle core they mostly repeat within 3%. */
const CALIBRATION_SPREAD = 1.25;

/**
 * Waits until others leave the CPU alone, some seconds at most; with `once` it looks once. Resolves to { quiet, cores,
 * programs }: how many cores others used last, and the names of those that used most, where the system tells (Linux).
 * Nothing of this process may run meanwhile.
 */
export async function waitForQuiet({ once, onWait }) {
  for (let attempt = 1; ; attempt++) {
    const [start, programsBefore] = [cpuSeconds(), programTicks()];
    await sleep(WINDOW * 1000);
    const cores = Math.max(0, usedByOthers(start)) / WINDOW;
    const programs = busiest(programsBefore, programTicks());
    const quiet = cores <= QUIET_CORES;
    if (quiet || once || attempt === TRIES) return { quiet, cores, programs };
    onWait(`Other programs use ${describeUse({ cores, programs })}: waiting`);
    await sleep(PAUSE * 1000);
  }
}

/** What others use, in words: "0.97 of a core (node, cc1plus)". */
export function describeUse({ cores, programs }) {
  return `${cores.toFixed(2)} of a core${programs.length > 0 ? ` (${programs.join(", ")})` : ""}`;
}

/**
 * What the watches of this process saw, for the result. `disturbed` has a list of rounds for each interleave(), in order.
 * `repeats` is how many rounds an interleave() measures again at most, so that it ends on a machine that stays disturbed too.
 */
export const watched = { repeats: 3, rounds: 0, repeated: 0, disturbed: [], calibrations: [] };

/**
 * Tells which rounds of an interleave() were disturbed. Within a round the sides are compared with each other, so a machine
 * that is slower than some minutes ago (other virtual machines, clock speeds) does no harm as long as it stays so. Two signs
 * of a disturbance: a fixed piece of work took clearly longer before the round than after it or than usual, or the other way
 * round; or others used the CPU. The second is asked for because the work has one thread, which finds a free core beside a
 * program that keeps only one busy.
 */
export class RoundWatch {
  #start;
  #calibrations = [];
  #repeats = watched.repeats;
  #disturbed = [];

  constructor() {
    for (let i = 0; i < 3; i++) calibrate(); // until it is compiled
    watched.disturbed.push(this.#disturbed);
  }

  begin() {
    this.#start = { calibration: calibrate(), cpu: cpuSeconds() };
  }

  /** Ends a round. True where it was disturbed and should be measured again. */
  end(round) {
    const { calibration: before, cpu } = this.#start;
    const cpuLimit = QUIET_CORES * (performance.now() / 1000 - cpu.at) + ACCOUNTING_ERROR;
    const othersRan = childrenCount && usedByOthers(cpu) > cpuLimit;
    const after = calibrate();
    this.#calibrations.push(before, after);
    watched.calibrations.push(before, after);
    const usual = this.#calibrations.toSorted((a, b) => a - b)[this.#calibrations.length >> 1];
    const times = [before, after, usual];
    const speedChanged = Math.max(...times) > CALIBRATION_SPREAD * Math.min(...times);
    const disturbed = othersRan || speedChanged;
    const again = disturbed && this.#repeats > 0;
    if (again) {
      this.#repeats--;
      watched.repeated++;
    } else {
      watched.rounds++;
      if (disturbed) this.#disturbed.push(round);
    }
    return again;
  }
}

/** Milliseconds of a fixed amount of integer and floating-point work. */
function calibrate() {
  const start = performance.now();
  let sum = 0;
  for (let i = 0; i < CALIBRATION_CALLS; i++) sum += work();
  // The sum is looked at, so that no compiler may leave the loop out.
  return sum > 0 ? performance.now() - start : Number.NaN;
}

/** It is short and called often, because V8 compiles a function that is called again better than a loop that still runs. */
function work() {
  let [state, sum] = [1, 0];
  for (let i = 0; i < 100_000; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    sum += 1 / (1.5 + (state & 1023));
  }
  return sum;
}

/** CPU seconds so far, of all programs and of this one. `at` is a time in seconds. */
function cpuSeconds() {
  const milliseconds = os.cpus().map(({ times: { user, nice, sys, irq } }) => user + nice + sys + irq);
  return { at: performance.now() / 1000, all: milliseconds.reduce((a, b) => a + b, 0) / 1000, own: ownSeconds() };
}

/** CPU seconds that others have used since `start`. */
function usedByOthers(start) {
  const now = cpuSeconds();
  return now.all - start.all - (now.own - start.own);
}

/** Whether ownSeconds() has children in it. Elsewhere a round with child processes would always look disturbed. */
const childrenCount = process.platform === "linux";

/** CPU seconds of this process, and on Linux of its children that have ended: fields 14 to 17 of proc_pid_stat(5). */
function ownSeconds() {
  if (childrenCount)
    return (
      statFields("self")
        .slice(11, 15)
        .reduce((sum, ticks) => sum + Number(ticks), 0) / 100
    );
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** The fields of /proc/PID/stat from the third one on; the second, the name, stands in parentheses. */
function statFields(pid) {
  const text = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** The ticks of CPU time that each other program has used, by process id; empty on systems other than Linux. */
function programTicks() {
  const ticks = new Map();
  for (const pid of childrenCount ? fs.readdirSync("/proc") : []) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      const [user, system] = statFields(pid).slice(11, 13);
      ticks.set(pid, Number(user) + Number(system));
    } catch {} // it has ended
  }
  return ticks;
}

/** The names of up to three programs that used more than a tick since `before`, the busiest first. */
function busiest(before, now) {
  const used = [...now].map(([pid, ticks]) => ({ pid, ticks: ticks - (before.get(pid) ?? 0) }));
  const most = used.filter(({ ticks }) => ticks > 1).sort((a, b) => b.ticks - a.ticks);
  const names = most.slice(0, 3).map(({ pid }) => {
    try {
      return fs.readFileSync(`/proc/${pid}/comm`, "utf8").trim();
    } catch {
      return "one that has ended";
    }
  });
  return [...new Set(names)];
}
