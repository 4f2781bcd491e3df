// Models of the sizes that people use.
#include "model_recipe.h"

namespace cllm {

namespace {

constexpr RealShape kShapes[] = {
    {"lfm2-350m", "lfm2",
     "block_count=16 embedding_length=1024 feed_forward_length=4608 attention.head_count=16 "
     "attention.head_count_kv=0,0,8,0,0,8,0,0,8,0,8,0,8,0,8,0 shortconv.l_cache=3 rope.freq_base=1000000.0 "
     "vocab_size=65536 context_length=128000"},
};

}  // namespace

const RealShape* find_real_shape(std::string_view name) {
  for (const RealShape& shape : kShapes) {
    if (name == shape.name) return &shape;
  }
  return nullptr;
}

std::string real_shape_names() {
  std::string names;
  for (const RealShape& shape : kShapes) names += std::string(names.empty() ? "" : ", ") + shape.name;
  return names;
}

}  // namespace cllm
