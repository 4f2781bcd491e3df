/**
 * Number of retries and times (milliseconds) of a pull, in one object so that tests can shorten them. They are no part of
 * the API.
 *
 * A dead connection is noticed after `idleTimeout`; a lock whose holder no longer touches it is taken over after
 * `lockStale`, which leaves the holder several missed touches of grace.
 */
export const tuning = {
  retries: 4,
  retryDelay: 1000,
  idleTimeout: 30_000,
  lockTouch: 2_000,
  lockStale: 20_000,
  lockPoll: 250,
};
