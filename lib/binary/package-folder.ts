import path from "node:path";

/**
 * The folder of this package, which holds dist/, prebuilds/ and models/. In an Electron app it may lie in an archive.
 */
export const packageFolder: string = path.join(__dirname, "..", "..");

/**
 * Returns the path by which native code finds a file of a package. In an Electron app packages lie in an archive `app.asar`, which only
 * Node's own functions can read; files that the system or native code opens are unpacked to `app.asar.unpacked` beside
 * it, in the same folders. A path without an archive stays as it is.
 */
export function unpackedPath(file: string): string {
  return file.replace(/\.asar(?=[\\/]|$)/, ".asar.unpacked");
}
