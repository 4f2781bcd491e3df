/** Estimates how long the rest of some work takes, from the pace since it began or was resumed. */
export class Pace {
  readonly #startedAt = Date.now();
  readonly #first: number;
  #pausedMilliseconds = 0;

  /** `first` items were done before. */
  constructor(first: number) {
    this.#first = first;
  }

  /** Seconds of work so far, pauses not counted. */
  get seconds(): number {
    return (Date.now() - this.#startedAt - this.#pausedMilliseconds) / 1000;
  }

  /** Null while nothing is done. */
  secondsLeft(done: number, total: number): number | null {
    return done > this.#first ? (this.seconds / (done - this.#first)) * (total - done) : null;
  }

  /** Does something whose time does not count. */
  async pause(interlude: () => Promise<void>): Promise<void> {
    const pausedAt = Date.now();
    await interlude();
    this.#pausedMilliseconds += Date.now() - pausedAt;
  }
}
