// Bounds of grammars and JSON schemas, without a model: tests the limits themselves, and random grammars and schemas
// with numbers around the limits. What the check accepts must have few rules and elements once llama.cpp has parsed it.
// A child does the work, with little memory, so that a fault ends the child and not the machine. Prints one line per
// failure; exit code 1 on a failure.

#include "grammar_test.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "llama/pattern_bounds.h"

namespace {

constexpr rlim_t kMemory = rlim_t{1} << 30;  // bytes of the whole child
constexpr rlim_t kSeconds = 300;             // of CPU time: only a fault comes near
constexpr rlim_t kStack = rlim_t{2} << 20;   // bytes: half of what a worker thread of Node has

int failures = 0;

}  // namespace

void check(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
}

std::mt19937_64 generator(1);
uint64_t below(uint64_t count) { return generator() % count; }

uint64_t some_number() {
  static const std::vector<uint64_t> edges = {kMaxCount - 1, kMaxCount,      kMaxCount + 1, 4095,
                                              4096,          1ull << 31,     1ull << 32,    (1ull << 63) - 1,
                                              1ull << 63,    UINT64_MAX - 1, UINT64_MAX};
  switch (below(8)) {
    case 0: return edges[below(edges.size())];
    case 1: return below(2 * kMaxCount);
    case 2: return generator() >> below(64);
    default: return below(6);
  }
}

Parsed parse(const std::string& grammar) {
  llama_grammar_parser parser(nullptr);
  Parsed parsed;
  try {
    for (const char* at = cllm::skip_grammar_space(grammar.c_str()); *at != '\0';) at = parser.parse_rule(at);
    parsed.whole = true;
  } catch (const std::exception&) {
  }
  parsed.rules = parser.rules.size();
  for (const auto& [name, id] : parser.symbol_ids) parsed.named += name.find('_') == std::string::npos ? 1 : 0;
  for (const auto& rule : parser.rules) parsed.elements += rule.size();
  parsed.all = std::move(parser.rules);
  return parsed;
}

GrammarPointer initialise(const std::string& grammar) {
  return GrammarPointer(llama_grammar_init_impl(nullptr, grammar.c_str(), "root", false, nullptr, 0, nullptr, 0));
}

namespace {

void test_repetitions() {
  const std::vector<uint64_t> numbers = {
      0, 1, 2, kMaxCount - 1, kMaxCount, kMaxCount + 1, 1u << 31, 1ull << 63, UINT64_MAX - 1};
  for (const uint64_t minimum : numbers) {
    check(cllm::why_repetition_refused(minimum, cllm::kNoMaximum).empty() == (minimum <= kMaxCount), "a minimum alone");
    for (const uint64_t maximum : numbers) {
      const bool fits = minimum <= maximum && maximum <= kMaxCount;
      check(cllm::why_repetition_refused(minimum, maximum).empty() == fits,
            "{" + std::to_string(minimum) + "," + std::to_string(maximum) + "}");
    }
  }
  const std::vector<std::string> too_large = {"2001", "9223372036854775808", "18446744073709551616",
                                              std::string(10'000, '9')};
  for (const std::string& digits : too_large) {
    for (const std::string& count : {"{" + digits + "}", "{0," + digits + "}", "{ " + digits + " , }"}) {
      check(cllm::why_bounds_refused("root ::= \"a\"" + count).find("counts more than 2000") != std::string::npos,
            "a count of " + std::to_string(digits.size()) + " digits");
      check(cllm::why_bounds_refused("root ::= \"" + count + "\" [" + count + "] # " + count).empty(),
            "a count in a literal, a class or a comment");
    }
    check(!cllm::why_pattern_refused("^a{" + digits + "}$").empty(), "a count in a pattern");
    if (digits.size() > 100) continue;
    check(cllm::why_pattern_refused("^[{" + digits + "}]\\{" + digits + "$").empty(), "a count in a pattern's class");
  }
  for (const char* pattern : {"^a{0,2000}$", "^a{2}b{2,}c{2,3}$", "^a{b}$", "a{", "^\\d{4}-\\d{2}$"}) {
    check(cllm::why_pattern_refused(pattern).empty(), pattern);
  }
}

void test_grammar_sizes() {
  const auto reason = [](const std::string& grammar) { return cllm::why_bounds_refused(grammar); };
  const auto repeated = [](const std::string& text, int count) {
    std::string all;
    while (count-- > 0) all += text;
    return all;
  };
  check(reason("root ::= [a-z]{0,100} (\"ab\" | x){2,2000} x+\nx ::= . {2000}").empty(), "what is in use");
  check(reason("root ::= " + repeated("x{0,2000} ", 3)).find("4096 rules") != std::string::npos, "rules add up");
  check(reason("root ::= \"" + repeated("a", 1000) + "\"{0,2000}").find("elements") != std::string::npos,
        "elements are multiplied");
  check(reason(repeated("r", 10'000) + " ::= x{0,2000}").find("names") != std::string::npos, "names are repeated");
  check(reason("root ::= x" + repeated("+", 4000)).find("elements") != std::string::npos, "operators in a row");
  check(reason("root ::= " + repeated("(", 100'000)).find("500 deep") != std::string::npos, "brackets");
  check(reason("root ::= <(((\"> <#> " + repeated("(", 501)).find("500 deep") != std::string::npos, "a token's text");
  check(reason("root ::= <[2147483648]>").find("number of a token") != std::string::npos, "a token's number");
}

int run_all() {
  const rlimit memory{kMemory, kMemory}, seconds{kSeconds, kSeconds};
  setrlimit(RLIMIT_AS, &memory);
  setrlimit(RLIMIT_CPU, &seconds);
  const std::pair<const char*, void (*)()> tests[] = {
      {"repetitions", test_repetitions},         {"grammar sizes", test_grammar_sizes},
      {"random grammars", test_random_grammars}, {"long chains", test_long_chains},
      {"schema numbers", test_schema_numbers},   {"schema sizes", test_schema_sizes},
      {"random schemas", test_random_schemas},   {"integer bounds", test_integer_bounds},
  };
  for (const auto& [name, test] : tests) {
    const int before = failures;
    try {
      test();
    } catch (const std::exception& error) {
      check(false, std::string(name) + " ends with " + error.what());
    }
    std::printf("%s %s\n", failures == before ? "ok" : "FAILED", name);
    std::fflush(stdout);
  }
  return failures > 0 ? 1 : 0;
}

}  // namespace

int main(int, char** argv) {
  // The main thread's stack has its size from the start of the program.
  rlimit stack{};
  getrlimit(RLIMIT_STACK, &stack);
  if (stack.rlim_cur != kStack) {
    stack.rlim_cur = kStack;
    setrlimit(RLIMIT_STACK, &stack);
    execv("/proc/self/exe", argv);
  }
  const pid_t child = fork();
  if (child == 0) _exit(run_all());
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) std::printf("FAILED: the child ended with signal %d\n", WTERMSIG(status));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
