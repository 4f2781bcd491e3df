// process.exit() and an uncaught error run no environment cleanup hooks on the main thread. Decode and task threads go
// on while exit() destroys static objects, and crash in ggml when ggml's are gone. So no static object of this library
// (llama.cpp, ggml and the static libstdc++ in it) is ever destroyed: all of them register at this hidden definition,
// which forgets them. The
// library is never unloaded either (-z nodelete). Windows ends all other threads before it runs a DLL's destructors.
#ifndef _WIN32
extern "C" __attribute__((visibility("hidden"))) int __cxa_atexit(void (*)(void*), void*, void*) { return 0; }
#endif
