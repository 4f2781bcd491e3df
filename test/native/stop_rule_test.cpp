// Tests of the place where a lane stops among the tokens that an iteration accepted.

#include <cstdint>
#include <vector>

#include "kernels/verify.h"
#include "unit_test.h"

using cllm::Token;

void test_stop_rule() {
  const std::vector<uint8_t> ends = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  const Token none[] = {1, 2, 3, 4};
  check(cllm::count_emitted(none, 3, 100, ends.data()) == 4, "stop rule: nothing ends");
  check(cllm::count_emitted(none, 3, 2, ends.data()) == 2, "stop rule: budget");
  check(cllm::count_emitted(none, 0, 100, ends.data()) == 1, "stop rule: at least one");
  for (int at = 0; at < 4; at++) {
    Token choices[] = {1, 2, 3, 4};
    choices[at] = 9;
    for (int accepted = 0; accepted < 4; accepted++) {
      const int expected = at <= accepted ? at + 1 : accepted + 1;
      check(cllm::count_emitted(choices, accepted, 100, ends.data()) == expected,
            "stop rule: end at " + std::to_string(at));
      check(cllm::count_emitted(choices, accepted, 100, nullptr) == accepted + 1, "stop rule: no ends");
    }
  }
}
