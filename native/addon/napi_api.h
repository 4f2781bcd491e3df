#pragma once

// The one place that includes napi.h, so that its defines (see CMakeLists.txt) are the same everywhere.
#ifndef NAPI_CPP_EXCEPTIONS
#error "Expected CMakeLists.txt to define NAPI_CPP_EXCEPTIONS"
#endif
#include <napi.h>
