// Prints Mocha's own "spec" output, and writes the counts as JSON for scripts/test.mjs to sum up.
const fs = require("node:fs");
const { Runner, reporters } = require("mocha");

module.exports = class CountingSpec extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const failures = [];
    const pending = [];
    const { EVENT_TEST_FAIL, EVENT_TEST_PENDING, EVENT_RUN_END } = Runner.constants;
    runner.on(EVENT_TEST_FAIL, (test) => failures.push(test.fullTitle()));
    runner.on(EVENT_TEST_PENDING, (test) => pending.push(test.fullTitle()));
    runner.on(EVENT_RUN_END, () => {
      const report = { passed: this.stats.passes, failed: failures.length, skipped: pending.length, failures, pending };
      if (process.env.CLLM_TEST_REPORT) fs.writeFileSync(process.env.CLLM_TEST_REPORT, JSON.stringify(report));
    });
  }
};
