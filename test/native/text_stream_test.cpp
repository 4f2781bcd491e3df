// Tests of the text stream, with bytes cut everywhere.

#include "decode/text_stream.h"

#include <random>

#include "unit_test.h"

namespace {

std::string stream(const std::string& bytes, const std::vector<std::string>& stop, std::mt19937& random, bool whole) {
  cllm::TextStream text(stop);
  std::string all;
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t length = whole ? bytes.size() : 1 + random() % 4;
    const bool stopped = text.push(std::string_view(bytes).substr(at, length));
    const std::string ready = text.take();
    for (const auto& s : stop) check(ready.find(s) == std::string::npos, "text: a stop string leaked");
    all += ready;
    if (stopped) return all;
    at += length;
  }
  text.finish();
  return all + text.take();
}

}  // namespace

void test_text_stream() {
  std::mt19937 random(3);
  const std::vector<std::string> alphabet = {"a",    "b",        "ab",   "é",    "€",           "🦊",
                                             "\xff", "\xf0\x9f", "\xc3", "\x80", "\xed\xa0\x80"};
  for (int run = 0; run < 20000; run++) {
    std::string bytes;
    for (size_t i = 0, n = random() % 12; i < n; i++) bytes += alphabet[random() % alphabet.size()];
    std::vector<std::string> stop;
    for (size_t i = 0, n = random() % 3; i < n; i++) {
      std::string s = alphabet[random() % 6];
      if (random() % 2 == 0) s += alphabet[random() % 6];
      stop.push_back(s);
    }
    const std::string whole = stream(bytes, stop, random, true);
    const std::string cut = stream(bytes, stop, random, false);
    check(stop.empty() ? whole == cut : whole.size() <= bytes.size() * 3, "text: run " + std::to_string(run));
    for (const auto& s : stop) check(cut.find(s) == std::string::npos, "text: a stop string in the result");
  }
  cllm::TextStream text({"STOP", "TOP!"});
  check(!text.push("ab ST") && text.take() == "ab ", "text: holds back what may become a stop string");
  check(!text.push("AR") && text.take() == "STAR", "text: releases what did not become one");
  check(text.push("xSTOP!y") && text.take() == "x", "text: ends right before it");
}
