// Mutates a GGUF and loads and decodes it the way the addon does, each mutant in a process of its own. A mutant may be
// refused; it must not end the process by a signal, hang, or take absurd memory.
//
//   fuzz-model-file MODEL FIRST_SEED COUNT [bytes|structure]      with COUNT = 1 it replays a single seed
//
// Two threads decode, as in the addon: no guard catches an assertion that fails on the second one.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ggml_guard.h"
#include "decode/context.h"
#include "gguf_mutator.h"
#include "llama.h"

namespace {

constexpr rlim_t kAddressSpace = rlim_t{6} << 30;
constexpr long kResidentKiB = 2L << 20;
constexpr unsigned kSeconds = 20;

std::string mutate(std::string bytes, uint64_t seed, size_t header, std::string& what) {
  std::mt19937_64 random(seed);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const int edits = 1 + static_cast<int>(below(3));
  for (int e = 0; e < edits; e++) {
    // Most edits are in the structure, a few in the weights.
    const size_t at = below(8) == 0 ? below(bytes.size()) : below(header);
    switch (below(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        what += " flip@" + std::to_string(at);
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        what += " byte@" + std::to_string(at);
        break;
      case 2: {
        constexpr uint32_t kValues[] = {0, 1, 2, 3, 7, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff};
        const uint32_t value = kValues[below(std::size(kValues))];
        if (at + 4 <= bytes.size()) std::memcpy(&bytes[at], &value, 4);
        what += " u32@" + std::to_string(at) + "=" + std::to_string(value);
        break;
      }
      case 3: {
        constexpr uint64_t kValues[] = {0, 1, 1000, 1ull << 31, 1ull << 32, 1ull << 40, 1ull << 62, 1ull << 63, ~0ull};
        const uint64_t value = kValues[below(std::size(kValues))];
        if (at + 8 <= bytes.size()) std::memcpy(&bytes[at], &value, 8);
        what += " u64@" + std::to_string(at) + "=" + std::to_string(value);
        break;
      }
      case 4:
        if (e == 0 && below(4) == 0) {
          bytes.resize(at);
          what += " cut@" + std::to_string(at);
          return bytes;
        }
        break;
      case 5: {
        // Makes a size or a count wrong by a little.
        uint32_t value = 0;
        if (at + 4 > bytes.size()) break;
        std::memcpy(&value, &bytes[at], 4);
        value = value + static_cast<uint32_t>(below(5)) - 2;
        std::memcpy(&bytes[at], &value, 4);
        what += " nudge@" + std::to_string(at);
        break;
      }
      default: {
        const size_t from = below(header), length = 1 + below(64);
        for (size_t i = 0; i < length && at + i < bytes.size() && from + i < bytes.size(); i++)
          bytes[at + i] = bytes[from + i];
        what += " copy@" + std::to_string(from) + "->" + std::to_string(at);
      }
    }
  }
  return bytes;
}

// Returns 0 for a mutant that was decoded, 1 for one that was refused.
int load_and_decode(const std::string& path) {
#ifndef __SANITIZE_ADDRESS__
  const rlimit limit{kAddressSpace, kAddressSpace};
  setrlimit(RLIMIT_AS, &limit);
#endif
  alarm(kSeconds);
  try {
    const auto model = std::make_shared<const cllm::Model>(path, cllm::LoadOptions{}, [](float) { return true; });
    cllm::ContextOptions options;
    options.context_size = 64;
    options.threads = 2;
    options.block_size = memory_of(model->handle()).max_rollback != 0 ? 4 : 1;
    cllm::Context context(model, options);
    (void)model->tokenize("the other side", true, true);
    const cllm::Token block[4] = {0, 1, 2, 0};
    const auto tokens = std::span<const cllm::Token>(block, static_cast<size_t>(options.block_size));
    const cllm::LaneTokens first{0, 0, tokens};
    if (context.decode({&first, 1}, true) != cllm::PassResult::kOk) return 1;
    const cllm::LaneTokens next{0, static_cast<int>(tokens.size()), tokens};
    if (context.decode({&next, 1}, true) != cllm::PassResult::kOk) return 1;
    std::string text;
    for (cllm::Token token = 0; token < model->info().vocab_size; token++) model->append_piece(token, true, text);
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) {
    std::fprintf(stderr, "usage: fuzz-model-file MODEL FIRST_SEED COUNT [bytes|structure]\n");
    return 2;
  }
  std::ifstream in(argv[1], std::ios::binary);
  const std::string original((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  // The structured part ends with the tensor names: everything behind the last of them is weights.
  size_t header = 0;
  for (const char* name : {"output_norm.weight", "output.weight", "token_embd.weight", ".weight"}) {
    const size_t at = original.rfind(name);
    if (at != std::string::npos) header = std::max(header, at + 64);
  }
  header = std::min(header, original.size());
  cllm::install_ggml_guard();
  llama_backend_init();
  const uint64_t first = std::strtoull(argv[2], nullptr, 10), count = std::strtoull(argv[3], nullptr, 10);
  const std::string path = "/tmp/cllm-fuzz-" + std::to_string(getpid()) + ".gguf";
  const bool structure = argc == 5 && std::strcmp(argv[4], "structure") == 0;
  const cllm::fuzz::Gguf parsed = structure ? cllm::fuzz::parse_gguf(original) : cllm::fuzz::Gguf{};
  uint64_t decoded = 0, refused = 0, crashed = 0;
  for (uint64_t seed = first; seed < first + count; seed++) {
    std::string what;
    std::ofstream out(path, std::ios::binary);
    if (structure) {
      std::mt19937_64 random(seed);
      cllm::fuzz::Gguf mutant = parsed;
      cllm::fuzz::mutate_structure(mutant, random, what);
      out << cllm::fuzz::encode_gguf(mutant);
    } else {
      out << mutate(original, seed, header, what);
    }
    out.close();
    const pid_t child = fork();
    if (child == 0) _exit(load_and_decode(path));
    int status = 0;
    rusage usage{};
    wait4(child, &status, 0, &usage);
    const bool large = usage.ru_maxrss > kResidentKiB;
    if (WIFSIGNALED(status) || large || WEXITSTATUS(status) > 1) {
      crashed++;
      const std::string how = large                 ? std::to_string(usage.ru_maxrss >> 10) + " MiB"
                              : WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                                    : "exit code " + std::to_string(WEXITSTATUS(status));
      std::printf("seed %llu: %s:%s\n", static_cast<unsigned long long>(seed), how.c_str(), what.c_str());
      std::fflush(stdout);
    } else if (WEXITSTATUS(status) == 0) {
      decoded++;
    } else {
      refused++;
    }
  }
  std::remove(path.c_str());
  std::printf("%llu decoded, %llu refused, %llu crashed\n", static_cast<unsigned long long>(decoded),
              static_cast<unsigned long long>(refused), static_cast<unsigned long long>(crashed));
  return crashed == 0 ? 0 : 1;
}
