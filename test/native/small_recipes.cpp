// Small models of every architecture. Rows of matrices are multiples of 256 where the architecture allows, so that
// every quantised type fits.
#include "model_recipe.h"

namespace cllm {

namespace {

struct Lines {
  const char* architectures;  // names with spaces between, or "*"
  const char* recipe;
};

constexpr Lines kLines[] = {
    {"*",
     "tokenizer.ggml.model=none vocab_size=256 context_length=1024 "
     "block_count=2 embedding_length=256 feed_forward_length=512 "
     "attention.head_count=4 attention.head_count_kv=2 "
     "attention.layer_norm_epsilon=1e-5 attention.layer_norm_rms_epsilon=1e-5 "
     "attention.sliding_window=64 attention.sliding_window_pattern=2"},

    // Experts.
    {"llama4 cohere2moe grok qwen2moe qwen3moe qwen3next qwen3vlmoe qwen35moe qwen4exp phimoe dbrx olmoe arctic "
     "deepseek "
     "deepseek2 deepseek2-ocr deepseek32 dots3note deepseek4 glm4moe glm-dsa exaone-moe bailingmoe bailingmoe2 "
     "bailingmoe3 dots1 afmoe ernie4_5-moe hunyuan-moe hy_v3 hy_v4 gpt-oss lfm2moe smallthinker llada-moe grovemoe "
     "minimax-01 minimax-m2 minimax-m3 rnd1 paddleocr mimo2 kimi-linear kimi-k3 step35 mistral4 mellum laguna maple "
     "granitemoe nemotron_h_moe ernie4_5",
     "expert_count=4 expert_used_count=2 expert_shared_count=1 expert_feed_forward_length=256 "
     "expert_shared_feed_forward_length=256 expert_gating_func=2 expert_weights_scale=1.0 expert_weights_norm=true "
     "leading_dense_block_count=1 interleave_moe_layer_step=2"},

    // Which layers of a hybrid are recurrent.
    {"lfm2 lfm2moe jamba plamo2 granitehybrid kimi-linear kimi-k3 bailingmoe3", "attention.head_count_kv=0,2,..."},
    {"qwen3next qwen35 qwen35moe qwen4exp", "full_attention_interval=2"},
    {"nemotron_h nemotron_h_moe", "block_count=3 attention.head_count_kv=0,2,0,... feed_forward_length=0,0,512,..."},

    // Mamba 1, 2 and gated delta nets.
    {"mamba jamba", "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=16 ssm.time_step_rank=256"},
    {"mamba2 granitehybrid falcon-h1 nemotron_h nemotron_h_moe plamo2",
     "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=128 ssm.time_step_rank=8 ssm.group_count=1 "
     "+ssm_conv1d.bias"},
    {"qwen3next qwen35 qwen35moe qwen4exp",
     "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=128 ssm.time_step_rank=4 ssm.group_count=2"},
    {"mamba mamba2", "attention.head_count=0 attention.head_count_kv=0 feed_forward_length=0"},
    {"lfm2 lfm2moe", "shortconv.l_cache=3 attention.sliding_window="},

    // Positions with several parts: sections of half a head.
    {"qwen2vl qwen3vl qwen3vlmoe qwen35 qwen35moe qwen4exp paddleocr hunyuan_vl", "rope.dimension_sections=8,12,12,0"},

    // Windows.
    {"llama4", "block_count=4 attention.sliding_window_pattern=4"},
    {"gemma3", "block_count=6"},
    {"gemma3n", "block_count=22 embedding_length_per_layer_input=256"},
    {"gemma4",
     "block_count=5 embedding_length_per_layer_input=256 attention.shared_kv_layers=0 attention.key_length=128 "
     "attention.value_length=128 attention.key_length_swa=64 attention.value_length_swa=64 rope.dimension_count_swa=64 "
     "rope.freq_base_swa=10000.0 "
     "attention.sliding_window_pattern=1,1,1,1,0,..."},
    {"gpt-oss", "+attn_q.bias +attn_k.bias +attn_v.bias"},

    // Embeddings that are the output, too.
    {"gemma gemma2 gemma3 gemma3n gemma4 lfm2 qwen35 granitehybrid mamba2", "-output.weight"},
};

bool names(std::string_view list, std::string_view name) {
  for (size_t at = list.find(name); at != list.npos; at = list.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || list[at - 1] == ' ') && (end == list.size() || list[end] == ' ')) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string_view> small_recipe_lines(std::string_view architecture) {
  std::vector<std::string_view> lines;
  for (const Lines& line : kLines) {
    if (line.architectures == std::string_view("*") || names(line.architectures, architecture)) {
      lines.push_back(line.recipe);
    }
  }
  return lines;
}

}  // namespace cllm
