// Models of the sizes that people use. The numbers are those of the published config.json, as the converter writes
// them; where one was not at hand, a comment says so. There are no layers that predict more tokens (MTP).
#include "model_recipe.h"

namespace cllm {

namespace {

constexpr RealShape kShapes[] = {
    // block_ff_dim 6656 is made 2/3 of it, rounded up to a multiple of 256.
    {"lfm2-350m", "lfm2",
     "block_count=16 embedding_length=1024 feed_forward_length=4608 vocab_size=65536 context_length=128000 "
     "attention.head_count=16 attention.head_count_kv=0,0,8,0,0,8,0,0,8,0,8,0,8,0,8,0 "
     "attention.layer_norm_rms_epsilon=1e-5 rope.freq_base=1e6 shortconv.l_cache=3"},
    {"qwen35-0.8b", "qwen35",
     "block_count=24 embedding_length=1024 feed_forward_length=3584 vocab_size=248320 context_length=262144 "
     "attention.head_count=8 attention.head_count_kv=2 attention.key_length=256 attention.value_length=256 "
     "attention.layer_norm_rms_epsilon=1e-6 rope.freq_base=1e7 rope.dimension_count=64 "
     "rope.dimension_sections=11,11,10,0 full_attention_interval=4 "
     "ssm.conv_kernel=4 ssm.inner_size=2048 ssm.state_size=128 ssm.time_step_rank=16 ssm.group_count=16"},
    {"gemma3-270m", "gemma3",
     "block_count=18 embedding_length=640 feed_forward_length=2048 vocab_size=262144 context_length=32768 "
     "attention.head_count=4 attention.head_count_kv=1 attention.key_length=256 attention.value_length=256 "
     "attention.layer_norm_rms_epsilon=1e-6 rope.freq_base=1e6 "
     "attention.sliding_window=512 attention.sliding_window_pattern=6"},
    // The residual scale is from memory.
    {"granite-4-h-350m", "granitehybrid",
     "block_count=32 embedding_length=768 feed_forward_length=2048 vocab_size=100352 context_length=32768 "
     "attention.head_count=12 "
     "attention.head_count_kv=0,0,0,0,0,0,0,0,0,0,4,0,0,4,0,0,0,4,0,0,0,0,0,0,0,0,0,4,0,0,0,0 "
     "attention.layer_norm_rms_epsilon=1e-5 attention.scale=0.015625 embedding_scale=12.0 residual_scale=0.246 "
     "logit_scale=3.0 rope.scaling.finetuned=false "
     "ssm.conv_kernel=4 ssm.inner_size=1536 ssm.state_size=128 ssm.time_step_rank=48 ssm.group_count=1"},
    // Its multipliers are folded into the weights by the converter.
    {"falcon-h1-0.5b", "falcon-h1",
     "block_count=36 embedding_length=1024 feed_forward_length=2048 vocab_size=32784 context_length=16384 "
     "attention.head_count=8 attention.head_count_kv=2 attention.key_length=64 attention.value_length=64 "
     "attention.layer_norm_rms_epsilon=1e-5 rope.freq_base=1e11 "
     "ssm.conv_kernel=4 ssm.inner_size=1536 ssm.state_size=128 ssm.time_step_rank=24 ssm.group_count=1 "
     "-ssm_norm.weight"},
    // The vocabulary of 50277 tokens is padded to a multiple of 16.
    {"mamba2-130m", "mamba2",
     "block_count=24 embedding_length=768 vocab_size=50288 context_length=1048576 "
     "attention.layer_norm_rms_epsilon=1e-5 "
     "ssm.conv_kernel=4 ssm.inner_size=1536 ssm.state_size=128 ssm.time_step_rank=24 ssm.group_count=1"},
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
