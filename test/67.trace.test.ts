import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser, Page } from "puppeteer-core";
import { Model, type Trace, trace, tracePage } from "../lib/index.js";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";

const HOSTILE = `</script><img src=x onerror="document.title='broken'"><!-- \u2028 \u05d0\u05d1 😀 \u0000`;

function findBrowser(): string | null {
  if (process.env.CLLM_TEST_BROWSER) return process.env.CLLM_TEST_BROWSER;
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {}
  }
  return null;
}

describe("trace", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-trace-"));
  const html = path.join(folder, "trace.html");
  let model: Model;
  let found: Trace;

  before(async () => {
    model = await Model.load(writeFixtures().chain);
    found = await trace(model, HOSTILE, { blockSize: 6, maxTokens: 40, threads: 1 });
  });
  after(async () => {
    await model.dispose();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it("has the text, tokens and counts of generate()", async () => {
    await using decoder = await model.createDecoder({ blockSize: 6, contextSize: 512, threads: 1 });
    const { text, tokens, stats } = await decoder.generate(HOSTILE, { maxTokens: 40 });
    assert.equal(found.text, text);
    assert.deepEqual(
      found.iterations.flatMap(({ emitted }) => emitted),
      tokens,
    );
    assert.equal(found.iterations.length, stats.iterations);
    assert.equal(found.fastForwardedTokens, stats.fastForwardedTokens);
    assert.equal(found.stationaryTokens, stats.stationaryTokens);
    for (const { block, kinds, choices, emitted } of found.iterations) {
      assert.equal(kinds.length, block.length);
      assert.equal(choices.length, block.length);
      assert.equal(
        kinds.filter((kind) => kind === "fastForwarded" || kind === "stationary").length,
        emitted.length - 1,
      );
    }
  });

  it("cllm trace writes the page, or the trace as JSON", async () => {
    const { chain } = writeFixtures();
    const page = await cllm(["trace", chain, "one two", "--raw", "--html", html, "-b", "4", "-n", "12", "-t", "1"]);
    assert.equal(page.code, 0, page.stderr);
    assert.match(page.stderr, /trace\.html: 12 tokens in \d+ iterations/);
    assert.match(fs.readFileSync(html, "utf8"), /^<!doctype html>/);
    const json = await cllm(["trace", chain, "one two", "--raw", "--json", "-b", "4", "-n", "12", "-t", "1"]);
    assert.equal((JSON.parse(json.stdout) as Trace).emittedTokens, 12);
    assert.equal((await cllm(["trace", chain, "one two"])).code, 2);
  });

  describe("page", function () {
    this.timeout(60_000);
    let browser: Browser;
    let page: Page;
    const errors: string[] = [];

    before(async function () {
      const executablePath = findBrowser();
      if (executablePath === null) {
        this.test?.parent?.eachTest((test) => {
          test.title += " (needs Chromium: apt-get install chromium)";
        });
        return this.skip();
      }
      const { launch } = await import("puppeteer-core");
      browser = await launch({ executablePath, args: ["--no-sandbox"] });
      page = await browser.newPage();
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => errors.push(message.text()));
      fs.writeFileSync(html, tracePage(found));
      await page.goto(`file://${html}`);
    });
    after(() => browser?.close());

    const where = async () =>
      Number(/Iteration (\d+)/.exec(await page.$eval("#where", (e) => e.textContent ?? ""))?.[1]);
    const text = () => page.$eval("#text", (e) => e.textContent);
    const kinds = () => page.$$eval("#block .t", (all) => all.map((e) => e.className.replace("t ", "")));

    it("shows a hostile prompt as text, without an error", async () => {
      assert.equal(await page.title(), "Jacobi decoding, step by step");
      assert.equal(await page.$eval("#prompt", (e) => e.textContent), found.prompt);
      assert.equal((await page.$$("img")).length, 0);
      assert.deepEqual(errors, []);
    });

    it("steps by keyboard, slider and buttons, with the kinds and the text of each iteration", async () => {
      const last = found.iterations.length;
      assert.equal(await where(), 1);
      for (const [i, iteration] of found.iterations.entries()) {
        assert.equal(await where(), i + 1);
        assert.deepEqual(await kinds(), iteration.kinds);
        assert.equal(await text(), found.text.slice(0, iteration.textLength));
        await page.keyboard.press("ArrowRight");
      }
      assert.equal(await where(), last);
      await page.keyboard.press("Home");
      assert.equal(await where(), 1);
      await page.keyboard.press("End");
      assert.equal(await where(), last);
      await page.keyboard.press("ArrowLeft");
      assert.equal(await where(), last - 1);
      await page.$eval("#slider", (e) => {
        (e as unknown as { value: string }).value = "2";
        e.dispatchEvent(new Event("input"));
      });
      assert.equal(await where(), 2);
      await page.click("#first");
      assert.equal(await where(), 1);
      await page.keyboard.press("Tab");
      await page.click("#play");
      while ((await where()) < 2) await sleep(50);
      assert.deepEqual(errors, []);
    });

    it("gives each kind a colour of its own, in light and in dark", async () => {
      for (const value of ["light", "dark"]) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
        const colours = (await page.evaluate(
          "[...document.querySelectorAll('.legend .t')].map((e) => getComputedStyle(e).backgroundColor)",
        )) as string[];
        assert.equal(new Set(colours).size, 5, colours.join());
      }
    });

    it("fits a phone, and stays quick with thousands of iterations", async () => {
      await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
      const iterations = Array.from({ length: 5000 }, (_, i) => found.iterations[i % found.iterations.length]);
      fs.writeFileSync(html, tracePage({ ...found, iterations } as Trace));
      await page.goto(`file://${html}`);
      const [scroll, width] = (await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")) as [
        number,
        number,
      ];
      assert.ok(scroll <= width, `${scroll} > ${width}`);
      const elements = (await page.$$("*")).length;
      assert.ok(elements < 1000, `${elements} elements`);
      await page.keyboard.press("End");
      assert.equal(await where(), 5000);
      assert.deepEqual(errors, []);
    });
  });
});
