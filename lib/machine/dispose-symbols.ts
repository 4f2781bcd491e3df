// Node before 20.4 lacks Symbol.dispose and Symbol.asyncDispose, which TypeScript's `await using` needs.
const symbols = Symbol as unknown as Record<string, symbol>;
for (const name of ["dispose", "asyncDispose"]) {
  if (symbols[name] === undefined) Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) });
}
