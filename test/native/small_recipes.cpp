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
     "block_count=2 embedding_length=256 feed_forward_length=512 attention.head_count=4 attention.head_count_kv=2 "
     "attention.layer_norm_epsilon=1e-5 attention.layer_norm_rms_epsilon=1e-5 "
     "attention.sliding_window=64 attention.sliding_window_pattern=2 "
     "logit_scale=0.5 residual_scale=0.5 attention.clamp_kqv=4.0 attention.max_alibi_bias=8.0 "
     "use_parallel_residual=true"},

    // Experts. The first layer is dense where there are dense layers.
    {"llama4 cohere2moe grok qwen2moe qwen3moe qwen3next qwen3vlmoe qwen35moe qwen4exp phimoe dbrx olmoe arctic "
     "deepseek deepseek2 deepseek2-ocr deepseek32 dots3note deepseek4 glm4moe glm-dsa exaone-moe bailingmoe "
     "bailingmoe2 bailingmoe3 dots1 afmoe ernie4_5-moe hunyuan-moe hy_v3 hy_v4 gpt-oss lfm2moe smallthinker "
     "llada-moe grovemoe minimax-01 minimax-m2 minimax-m3 rnd1 mimo2 kimi-linear kimi-k3 step35 mistral4 mellum "
     "laguna maple granitemoe nemotron_h_moe",
     "expert_count=4 expert_used_count=2 expert_shared_count=1 expert_feed_forward_length=256 "
     "expert_shared_feed_forward_length=256 expert_gating_func=2 expert_weights_scale=1.0 expert_weights_norm=true "
     "leading_dense_block_count=1 interleave_moe_layer_step=2 swiglu_clamp_exp=8.0 +exp_probs_b.bias"},
    {"grovemoe", "experts_per_group=2 expert_group_scale=0.5 expert_chunk_feed_forward_length=256"},
    {"nemotron_h_moe", "moe_latent_size=256"},

    // Hybrids: which layers are recurrent.
    {"lfm2 lfm2moe jamba plamo2 granitehybrid", "attention.head_count_kv=0,2,..."},
    {"kimi-linear kimi-k3 bailingmoe3", "attention.head_count_kv=0,1,..."},
    {"qwen3next qwen35 qwen35moe qwen4exp minimax-01", "full_attention_interval=2"},
    {"nemotron_h", "block_count=3 attention.head_count_kv=0,2,0,... feed_forward_length=0,0,512,..."},
    {"nemotron_h_moe", "block_count=3 attention.head_count_kv=0,2,0,... feed_forward_length=0,0,256,..."},

    // Recurrent layers: Mamba 1, Mamba 2, gated delta nets, KDA, RWKV, short convolutions.
    {"mamba jamba", "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=16 ssm.time_step_rank=256"},
    {"mamba2 granitehybrid falcon-h1 nemotron_h nemotron_h_moe plamo2",
     "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=128 ssm.time_step_rank=8 ssm.group_count=1 "
     "+ssm_conv1d.bias"},
    {"plamo2", "ssm.group_count=0"},
    {"qwen3next qwen35 qwen35moe qwen4exp",
     "ssm.conv_kernel=4 ssm.inner_size=512 ssm.state_size=128 ssm.time_step_rank=4 ssm.group_count=2"},
    {"kimi-linear kimi-k3 bailingmoe3",
     "ssm.conv_kernel=4 kda.head_dim=128 kda.safe_gate=true kda.gate_lower_bound=-5.0"},
    {"mamba mamba2", "attention.head_count=0 attention.head_count_kv=0 feed_forward_length=0"},
    {"rwkv6 rwkv6qwen2", "wkv.head_size=64 time_mix_extra_dim=32 time_decay_extra_dim=64"},
    {"rwkv7 arwkv7",
     "wkv.head_size=64 attention.decay_lora_rank=64 attention.iclr_lora_rank=64 "
     "attention.value_residual_mix_lora_rank=64 attention.gate_lora_rank=64"},
    {"rwkv6 rwkv7", "attention.head_count=0 attention.head_count_kv=0 token_shift_count=2"},
    {"rwkv6qwen2 arwkv7", "token_shift_count=1"},
    {"lfm2 lfm2moe", "shortconv.l_cache=3 attention.sliding_window="},

    // Multi-head latent attention: heads of 256 + 64, a latent vector of 256 + 64.
    {"deepseek2 deepseek32 glm-dsa dots3note kimi-linear kimi-k3 bailingmoe3 mistral4 hy_v4",
     "attention.q_lora_rank=256 attention.kv_lora_rank=256 attention.key_length=320 attention.value_length=256 "
     "attention.key_length_mla=320 attention.value_length_mla=256 rope.dimension_count=64"},
    {"deepseek2 deepseek32 glm-dsa dots3note mistral4 hy_v4", "attention.head_count_kv=1"},
    {"minicpm3 plm",
     "attention.q_lora_rank=256 attention.kv_lora_rank=256 attention.key_length=96 rope.dimension_count=32 "
     "attention.head_count_kv=4"},

    // Sparse attention: an indexer chooses the rows.
    {"deepseek32 glm-dsa dots3note deepseek4 hy_v4 qwen4exp minimax-m3",
     "attention.indexer.head_count=4 attention.indexer.key_length=128 attention.indexer.top_k=32 "
     "attention.indexer.block_size=4 attention.indexer.local_blocks=1 attention.indexer.types=1,0,..."},
    {"minimax-m3", "attention.indexer.head_count=2 rope.dimension_count=64"},
    {"qwen4exp", "attention.indexer.key_length=64"},

    // Positions with several parts: sections of half a head.
    {"qwen2vl qwen3vl qwen3vlmoe qwen35 qwen35moe qwen4exp paddleocr hunyuan_vl qwen3tts",
     "rope.dimension_sections=8,12,12,0"},

    // Windows.
    {"cohere2moe mimo2 step35 spark2_5 muse-glimmer granite_swa dots3note maple",
     "attention.sliding_window_pattern=1,0,..."},
    {"llama4", "block_count=4 attention.sliding_window_pattern=4"},
    {"gemma3", "block_count=6"},
    {"gemma3n", "block_count=22 embedding_length_per_layer_input=256"},
    {"gemma4",
     "block_count=5 embedding_length_per_layer_input=256 attention.shared_kv_layers=0 attention.key_length=128 "
     "attention.value_length=128 attention.key_length_swa=64 attention.value_length_swa=64 rope.dimension_count_swa=64 "
     "rope.freq_base_swa=10000.0 attention.sliding_window_pattern=1,1,1,1,0,..."},
    {"dots3note",
     "attention.kv_lora_rank_swa=256 attention.key_length_swa=320 attention.value_length_swa=256 "
     "attention.key_length_mla_swa=320 attention.value_length_mla_swa=256 rope.freq_base_swa=10000.0 "
     "attention.indexer.types=0,1,..."},

    // One architecture each.
    {"dots1 olmoe deepseek2-ocr chameleon talkie", "attention.head_count_kv=4"},
    {"deepseek4",
     "block_count=4 embedding_length=512 attention.head_count=8 attention.head_count_kv=1 attention.key_length=64 "
     "attention.value_length=64 rope.dimension_count=32 attention.q_lora_rank=256 attention.output_group_count=8 "
     "attention.output_lora_rank=64 attention.compress_ratios=0,0,4,128 attention.compress_rope_freq_base=160000.0 "
     "hyper_connection.count=4 hyper_connection.sinkhorn_iterations=2 hyper_connection.epsilon=1e-6 "
     "hash_layer_count=0 expert_gating_func=4"},
    {"hy_v4", "hyper_connection.count=4 hyper_connection.epsilon=1e-6 hyper_connection.magnitude=2.0"},
    // Its n-gram embeddings lie on a recurrent layer: 2 sizes of n-grams, 2 heads each.
    {"qwen4exp",
     "hyper_connection.count=4 hyper_connection.low_rank=8 attention.compress_ratios=4,... ple.layers=0, "
     "ple.ngram_size=3 ple.heads_per_ngram=2 ple.conv_kernel=4 ple.eos_token_id=0 embedding_length_per_layer_input=64 "
     "ple.layer_multipliers=u64:1,3,5 ple.head_offsets=u64:0,256,512,768 ple.head_vocab_sizes=u64:256,256,256,256"},
    {"kimi-k3",
     "attn_res.block_size=12 activation.situ_beta=4.0 activation.situ_linear_beta=25.0 expert_latent_length=256"},
    {"apertus", "xielu.alpha_n=1.0,... xielu.alpha_p=1.0,... xielu.beta=1.0,... xielu.eps=1e-6,..."},
    {"hrm_text", "block_count=8 hrm.layers_per_stack=1 hrm.h_cycles=2 hrm.l_cycles=3"},
    {"qwen3tts", "vocab_size=3072"},
    {"chameleon", "vocab_size=10240"},
    {"t5 t5encoder", "attention.relative_buckets_count=8"},
    {"rwkv6qwen2", "-time_mix_first.weight +time_mix_key.bias +time_mix_value.bias +time_mix_receptance.bias"},
    {"gpt-oss", "+attn_q.bias +attn_k.bias +attn_v.bias"},

    {"graniteswitch",
     "adapters.count=1 adapters.lora_rank=256 adapters.token_ids_activate=5, adapters.token_ids_substitute=6,"},

    // Models that are not decoded: encoders, drafts for another model.
    {"llama-embed gemma-embedding bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert "
     "eurobert",
     "attention.causal=false"},
    {"bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3", "tokenizer.ggml.token_type_count=2"},
    {"nomic-bert-moe", "expert_count=4 expert_used_count=2 moe_every_n_layers=2"},
    {"gemma4-assistant",
     "embedding_length_out=512 nextn_predict_layers=2 attention.key_length_swa=64 attention.value_length_swa=64 "
     "attention.sliding_window_pattern=1,0,..."},
    {"eagle3", "block_count=1 target_layers=0,1,2 target_hidden_size=256"},
    {"dflash", "target_layers=0,1 attention.sliding_window_pattern=1,0,..."},

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
