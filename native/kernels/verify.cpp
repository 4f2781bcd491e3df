#include "kernels/verify.h"

#include <limits>

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

int advance_draft(const Token* block, const Token* choices, int n, int emitted, Token* draft, uint16_t* age) {
  const int kept = n - emitted;
  for (int j = 0; j < kept; j++) {
    // choices[emitted + j] is the guess for the absolute position that block[emitted + j + 1] held until now.
    const int slot = emitted + j + 1;
    const bool stayed = slot < n && block[slot] == choices[emitted + j];
    const uint16_t before = stayed ? age[slot] : 0;
    age[j + 1] = stayed && before < std::numeric_limits<uint16_t>::max() ? before + 1 : before;
    draft[j] = choices[emitted + j];
  }
  for (int j = kept + 1; j < n; j++) age[j] = 0;
  return kept;
}

int count_stationary(const uint16_t* age, int count) {
  int stationary = 0;
  for (int j = 1; j <= count; j++) stationary += age[j] > 0;
  return stationary;
}

}  // namespace cllm
