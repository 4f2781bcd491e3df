/** mulberry32: the same numbers on every machine. */
export class Random {
  #state;

  constructor(...seeds) {
    let state = 0x9e3779b9;
    for (const seed of seeds) state = Math.imul(state ^ (seed >>> 0), 0x85ebca6b) ^ (state >>> 13);
    this.#state = state >>> 0;
  }
  /** In [0, 1). */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  /** An integer from low to high, both included. */
  int(low, high) {
    return low + Math.floor(this.next() * (high - low + 1));
  }
  chance(probability) {
    return this.next() < probability;
  }
  pick(items) {
    return items[Math.floor(this.next() * items.length)];
  }
  /** One key of an object of weights. */
  weighted(weights) {
    const entries = Object.entries(weights);
    let at = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [key, weight] of entries) {
      at -= weight;
      if (at < 0) return key;
    }
    return entries[entries.length - 1][0];
  }
  shuffle(items) {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.int(0, i);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }
  sample(items, count) {
    return this.shuffle(items).slice(0, count);
  }
  /**
   * A template's text: `(a|b)` is one of its alternatives, which may nest and be empty, `$name` the value of that name.
   * Runs of spaces become one.
   */
  fill(template, values = {}) {
    let text = template;
    for (let inner = /\(([^()]*)\)/; inner.test(text); ) {
      text = text.replace(inner, (_, body) => this.pick(body.split("|")));
    }
    return text
      .replace(/\$(\w+)/g, (_, name) => {
        if (values[name] === undefined) throw new Error(`${template} has no $${name}`);
        return values[name];
      })
      .replace(/ +/g, " ")
      .trim();
  }
}

/** A stable number of a text, for dividing words and domains between the splits. */
export function hash(text) {
  let state = 0x811c9dc5;
  for (const character of text) state = Math.imul(state ^ character.codePointAt(0), 0x01000193) >>> 0;
  return (state ^ (state >>> 15)) >>> 0;
}
