/** Explains the message of a failed dlopen; returns null for a message of another kind. */
export function explainLoadFailure(message: string): string | null {
  const version = /version [`'"]?(GLIBC(?:XX)?_[\d.]+)/.exec(message)?.[1];
  if (version) return `this system's C library is older than the binary needs (${version})`;
  if (/ld-linux|libc\.musl|Error relocating/.test(message))
    return "the binary was made for another C library (glibc, musl)";
  const library = /^([^\s:/]+\.so[.\d]*|[^\s:/]+\.dylib): cannot open/.exec(message)?.[1];
  if (library) return `the library ${library} is missing on this system`;
  if (/invalid ELF|wrong ELF|Exec format|not a valid Win32|mach-o|file too short/i.test(message)) {
    return "the file is damaged or was made for another platform";
  }
  if (/cannot open shared object|no such file|cannot find module/i.test(message)) return "the file does not exist";
  return null;
}
