#include "kernels/verify.h"

namespace cllm {

int count_accepted(const Token* block, const Token* choices, int n) {
  int m = 0;
  while (m < n - 1 && block[m + 1] == choices[m]) m++;
  return m;
}

int count_emitted(const Token* choices, int accepted, int64_t budget, const uint8_t* end_of_generation) {
  int emitted = 0;
  while (emitted <= accepted && emitted < budget) {
    const Token token = choices[emitted++];
    if (end_of_generation != nullptr && end_of_generation[token] != 0) break;
  }
  return emitted;
}

int advance_draft(const Token* block, const Token* choices, int n, int emitted, Token* draft, uint8_t* stood) {
  const int kept = n - emitted;
  for (int j = 0; j < n; j++) stood[j] = 0;
  for (int j = 0; j < kept; j++) {
    draft[j] = choices[emitted + j];
    // It is the guess for the absolute position that block[emitted + j + 1] held until now.
    const int slot = emitted + j + 1;
    stood[j + 1] = slot < n && block[slot] == draft[j];
  }
  return kept;
}

int count_stationary(const uint8_t* stood, int count) {
  int stationary = 0;
  for (int j = 1; j <= count; j++) stationary += stood[j];
  return stationary;
}

}  // namespace cllm
