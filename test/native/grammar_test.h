#pragma once

// Shared by the files of cllm-grammar-test (grammar_test.cpp): the check, random numbers, and the test functions.

#include <cstdint>
#include <random>
#include <string>

#include "base/ggml_pointers.h"
#include "llama-grammar.h"
#include "llama/grammar_bounds.h"

constexpr uint64_t kMaxCount = cllm::kMaxRepetitions;

using GrammarPointer = std::unique_ptr<llama_grammar, cllm::Freed<llama_grammar_free_impl>>;

/// Counts a failure, and prints it, unless `ok`.
void check(bool ok, const std::string& what);

extern std::mt19937_64 generator;
/// A random number from 0 to count - 1.
uint64_t below(uint64_t count);
/// Returns a small number most often, and at times one around the limits or a power of two.
uint64_t some_number();

/// What llama.cpp's parser makes of a grammar.
struct Parsed {
  bool whole = false;
  size_t rules = 0, named = 0, elements = 0;
  llama_grammar_rules all;
};

Parsed parse(const std::string& grammar);
/// llama.cpp's grammar, or null where it refuses the text.
GrammarPointer initialise(const std::string& grammar);

// grammar_random_test.cpp
void test_random_grammars();
void test_long_chains();

// schema_test.cpp
void test_schema_numbers();
void test_schema_sizes();
void test_random_schemas();
void test_integer_bounds();
