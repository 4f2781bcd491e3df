/** Estimates how long the remaining items of some work take, from the pace since it began or was resumed. */
export class Pace {
  readonly #startedAt = Date.now();
  readonly #doneBefore: number;
  #pausedMilliseconds = 0;

  /** `doneBefore` items were done before the work was resumed. */
  constructor(doneBefore: number) {
    this.#doneBefore = doneBefore;
  }

  /** Seconds of work so far, pauses not counted. */
  get seconds(): number {
    return (Date.now() - this.#startedAt - this.#pausedMilliseconds) / 1000;
  }

  /** Seconds that the remaining items will take; null while none is done. */
  secondsLeft(done: number, total: number): number | null {
    return done > this.#doneBefore ? (this.seconds / (done - this.#doneBefore)) * (total - done) : null;
  }

  /** Runs `interlude`, whose time does not count as work. */
  async pause(interlude: () => Promise<void>): Promise<void> {
    const pausedAt = Date.now();
    await interlude();
    this.#pausedMilliseconds += Date.now() - pausedAt;
  }
}
