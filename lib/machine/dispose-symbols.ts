// Node has Symbol.dispose and Symbol.asyncDispose from 20.4 on; before that, TypeScript's `await using` needs them made.
const symbols = Symbol as unknown as Record<string, symbol>;
for (const name of ["dispose", "asyncDispose"]) {
  if (symbols[name] === undefined) Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) });
}
